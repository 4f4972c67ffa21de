"""Whatever is written on the command line: one line that names the key, exit code 2, nothing written, nothing run.

A sample of the corpus each time; all of it with SELECTOR_CORPUS=all, which takes some minutes.
"""

import os
import sys
from pathlib import Path

import pytest

from selector.launch import main
from tests.fuzz.command_line import HAND_PICKED, with_other_values
from tests.support import CONFIGS

WHOLE = os.environ.get("SELECTOR_CORPUS") == "all"


class Reached(Exception):
    """The command line was accepted."""


def application() -> None:
    """Stands for Hydra's application, which would write."""
    raise Reached


def judged(override: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str] | None:
    """The lines on stderr; None where the override was accepted."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    argv = [override] if override.lstrip("+~").startswith("logger") else [override, "logger=none"]
    try:
        code = main(application, CONFIGS, argv)
    except Reached:
        return None
    out, err = capsys.readouterr()
    assert code == 2, override
    assert not out, override
    return err.splitlines()


def test_the_corpus_is_large() -> None:
    assert len(set(HAND_PICKED)) >= 300


@pytest.mark.parametrize("override", sorted(set(HAND_PICKED))[:: 1 if WHOLE else 8])
def test_it_is_refused_in_one_line(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("code was run"))
    lines = judged(override, capsys, monkeypatch)
    assert lines is not None, "accepted"
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    named = override.lstrip("+~").split("=")[0].split(".")[0].split()
    assert not named or named[0] in lines[0] or "${" in override, lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", list(with_other_values())[:: 7 if WHOLE else 97])
def test_any_value_of_any_key_is_accepted_or_refused_in_one_line(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = judged(override, capsys, monkeypatch)
    if lines is not None:
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert not list(tmp_path.iterdir())
