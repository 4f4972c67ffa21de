"""Whatever bytes a file holds: it is data, or it is refused in one line."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selector.errors import InvalidInput
from selector.items.lists import read_lists
from tests.unit.items.test_file import lists, options, write

SUFFIXES = [".npy", ".npz", ".csv", ".parquet"]
ROOMY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOKENS = [b"\xff\xff\xff\xff", b"|O", b"(9999999999, 9, 9)", b"nan", b"\n", b",", b'"', b"PK\x05\x06", b"1e999", b"\0"]


def read(path: Path) -> None:
    """Data or InvalidInput, and little memory; any other exception is the test's failure."""
    tracemalloc.start()
    refused = ""
    try:
        found = read_lists(path, **options(path))
        assert np.isfinite(found.read(0, len(found))).all()
        assert found.N >= found.fewest() >= 1
    except InvalidInput as error:
        refused = str(error)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in refused
    assert most < 64 * 2**20


def valid(folder: Path, suffix: str) -> bytes:
    path = folder / f"valid{suffix}"
    if suffix == ".npy":
        np.save(path, np.nan_to_num(lists()[0]))
    else:
        write(path)
    return path.read_bytes()


@ROOMY
@given(suffix=st.sampled_from(SUFFIXES), content=st.binary(max_size=200))
def test_any_bytes(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    read(path)


@ROOMY
@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_valid_files_with_something_changed(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(valid(tmp_path, suffix))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        new = data.draw(st.binary(max_size=4) | st.sampled_from(TOKENS))
        content[at : at + data.draw(st.sampled_from([0, len(new), 8]))] = new
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    read(path)


@given(kind=st.text(st.characters(max_codepoint=255), max_size=8), shape=st.text(st.characters(max_codepoint=255)))
@example(kind="\n<f8", shape="1, 2, 3").via("fuzzing")
@ROOMY
def test_any_npy_header(tmp_path: Path, kind: str, shape: str) -> None:
    body = "{'descr': '" + kind + "', 'fortran_order': False, 'shape': (" + shape + ")}"
    header = body.encode("latin-1")
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    read(path)


@pytest.mark.parametrize("shape", ["(10000000000, 8, 16)", "(999999999999999999, 999999999999999999, 99999999999)"])
def test_memory_is_not_taken_on_the_word_of_a_header(shape: str, tmp_path: Path) -> None:
    import zipfile

    header = ("{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }").encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24)
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("items.npy", content)
    for name in ("x.npy", "x.npz"):
        read(tmp_path / name)
        with pytest.raises(InvalidInput, match=r"announces|needs"):
            read_lists(tmp_path / name)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An array of objects runs its pickle when numpy is allowed to load it."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]  # any callable will do

    np.save(tmp_path / "x.npy", np.array([[[Trap()]]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", items=np.array([[[Trap()]]], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InvalidInput, match="never unpickled"):
            read_lists(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists(), "the trap works"
