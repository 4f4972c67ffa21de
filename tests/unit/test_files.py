"""Files are the old ones or the new ones, never half of each."""

import errno
import fcntl
import json
from pathlib import Path

import pytest

from selector.errors import InvalidInput
from selector.files import claim, read_json, sole_process, write_atomically, write_json


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("half of a")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ({"old": 1}, {"new": 2}):
        write_json(path, content)
    assert json.loads(path.read_text()) == {"new": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"regret": float("nan"), "seeds": [{"loss": float("inf")}, 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"regret": None, "seeds": [{"loss": None}, 1.5]}


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    refused = pytest.raises(InvalidInput, match="another process")
    # The lock belongs to the open file: opening it again, here, is what another process would do.
    with sole_process(tmp_path / "run"), refused, sole_process(tmp_path / "run"):
        raise AssertionError("two in one folder")
    with sole_process(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()  # cannot be opened, by root neither
    with pytest.raises(InvalidInput, match=f"name={tmp_path}: cannot be written to"), sole_process(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_json_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=f"run={path}: is damaged"):
        read_json(path)


def test_a_file_system_without_locks_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_process(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{tmp_path}: no locks here (No locks available): nothing keeps a second process out of this folder"


def test_two_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "st_gumbel-20260101-000000"
    assert [claim(folder).name for _ in range(3)] == [folder.name, f"{folder.name}-2", f"{folder.name}-3"]
    assert all(path.is_dir() for path in (folder, folder.with_name(f"{folder.name}-2")))
