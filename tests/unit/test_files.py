"""Files are the old ones or the new ones, never half of each."""

import json
from pathlib import Path

import pytest

from selector.files import write_atomically, write_json


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
