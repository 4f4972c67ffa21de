"""Whatever bytes a checkpoint holds: it is that of a run, or damaged, in one line. Nothing in it is run."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector.loading import DamagedCheckpoint, read_checkpoint

CONTENT: dict[str, Any] = {
    "global_step": 3,
    "state_dict": {"network.body.weight": torch.ones(2, 3), "network.body.bias": torch.zeros(2)},
    "selector": {"seeds": [0, 1], "noise": {"items": {"generators": [torch.zeros(8, dtype=torch.uint8)]}}},
}
ROOMY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


WHOLE = saved(CONTENT)


def attempt(path: Path, content: bytes) -> str | None:
    """Why it was refused; None if it was read."""
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except DamagedCheckpoint as error:
        assert "\n" not in str(error)  # noqa: PT017 - any other exception is the failure that this looks for
        return error.why
    assert read.keys() >= CONTENT.keys()
    return None


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    assert attempt(tmp_path / "x.ckpt", WHOLE) is None


@ROOMY
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    assert attempt(tmp_path / "x.ckpt", content) is not None


@ROOMY
@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_changed_bit_is_found_or_changes_nothing(tmp_path: Path, at: int, bit: int) -> None:
    content = bytearray(WHOLE)
    content[at] ^= 1 << bit
    path = tmp_path / "x.ckpt"
    if attempt(path, bytes(content)) is None:  # in the padding, or in a date
        read = read_checkpoint(path)
        for name, value in CONTENT["state_dict"].items():
            assert torch.equal(read["state_dict"][name], value)
        assert read["global_step"] == 3


@ROOMY
@given(st.data())
def test_archives_with_right_checksums_around_a_changed_pickle(tmp_path: Path, data: st.DataObject) -> None:
    """What an attacker would write: the archive is sound, what is in it is not."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            inside = bytearray(old.read(info))
            if info.filename.endswith("data.pkl"):
                for _ in range(data.draw(st.integers(1, 3))):
                    at = data.draw(st.integers(0, len(inside)))
                    inside[at : at + data.draw(st.sampled_from([0, 1, 4]))] = data.draw(st.binary(max_size=4))
            new.writestr(info.filename, bytes(inside))
    attempt(tmp_path / "x.ckpt", buffer.getvalue())


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_run(tmp_path: Path) -> None:
    trap = saved({**CONTENT, "more": Trap(tmp_path / "sprung")})
    why = attempt(tmp_path / "x.ckpt", trap)
    assert why is not None
    assert why.startswith("is damaged: ")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert (tmp_path / "sprung").exists(), "the trap works"


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert attempt(tmp_path / "x.ckpt", buffer.getvalue()) == "is damaged: holds something compressed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"global_step": -1}, "global_step"),
        ({"global_step": True}, "global_step"),
        ({"state_dict": [1]}, "state_dict"),
        ({"state_dict": {"a": torch.ones(2).to_sparse()}}, "'a' is no dense tensor"),
        ({"state_dict": {"a": torch.ones(2, device="meta")}}, "'a' is no dense tensor"),
        ({"state_dict": {"a": torch.ones(2, dtype=torch.complex64)}}, "'a' is no plain tensor"),
        ({"selector": {"seeds": [0, 0]}}, "twice"),
        ({"selector": {"seeds": ["0"]}}, "seeds are missing"),
        ({"selector": None}, "seeds are missing"),
    ],
)
def test_what_no_run_writes_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    why = attempt(tmp_path / "x.ckpt", saved({**CONTENT, **change}))
    assert why is not None
    assert why.startswith("is no checkpoint of a run: ")
    assert words in why


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="is missing"):
        read_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(DamagedCheckpoint, match="is a folder"):
        read_checkpoint(tmp_path)
