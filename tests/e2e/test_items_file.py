"""Training on lists from a file: from the command line, resumed, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from selector.__main__ import main as command
from selector.launch import main
from tests.e2e.test_readme import blocks
from tests.e2e.test_resume import Crash, assert_same_run, train_in
from tests.support import CONFIGS, SHORT
from tests.unit.items.test_file import write
from train import train


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


def start(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, list(arguments))


@pytest.mark.usefixtures("folder")
def test_the_commands_of_the_readme_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks("bash") if "items.path=cards.npy" in block]
    lines = [line.split("  #")[0].strip() for line in example.replace("\\\n", " ").splitlines()]
    made = [line for line in lines if line.startswith("python -c")]
    commands = [line for line in lines if line.startswith("python train.py")]
    for line in made:
        exec(line.removeprefix('python -c "').removesuffix('"'), {})
    assert (len(made), len(commands)) == (2, 3)
    for number, line in enumerate(commands):
        words = line.replace("'", "").split()
        assert words[:2] == ["python", "train.py"]
        short = [*SHORT, "logger=none", f"name=run{number}"]  # the later name wins
        assert start(monkeypatch, *words[2:], *short) == 0
        capsys.readouterr()
        assert command(["evaluate", f"outputs/run{number}"]) == 0
        assert "exact oracle" in capsys.readouterr().out


@pytest.mark.parametrize("strategy", ["st_gumbel", "rloo"])
def test_a_crash_changes_nothing(strategy: str, folder: Path) -> None:
    write(folder / "x.npz")
    overrides = ["items=file", "items.path=x.npz", "problem.D=2", "problem.C=1", f"strategy={strategy}"]
    train_in(folder / "whole", overrides)
    with pytest.raises(RuntimeError, match="crash"):
        train_in(folder / "crashed", overrides, callbacks=[Crash(17)])
    train_in(folder / "crashed", overrides, resume=True)
    assert_same_run(folder / "crashed", folder / "whole")


def test_a_run_goes_on_only_with_the_file_it_began_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).normal(size=(10, 4, 1))
    np.save(folder / "x.npy", values)
    asked = [*SHORT, "items=file", "items.path=x.npy", "problem.N=4", "logger=none", "name=run"]
    assert start(monkeypatch, *asked) == 0
    values[7, 2] += 1
    np.save(folder / "x.npy", values)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert start(monkeypatch, "resume=outputs/run", "max_steps=30") == 2
    told = "items=File: the file is not the one that the run in outputs/run began with"
    assert capsys.readouterr().err == f"error: {told}\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    values[7, 2] -= 1
    np.save(folder / "x.npy", values)
    assert start(monkeypatch, "resume=outputs/run", "max_steps=30") == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["items.path=none.npy"], "items.path=none.npy: no such file"),
        (["items.path=."], "items.path=.: is a folder; must be a file"),
        ([], "items.path=None: must be a path or a word"),
        (
            ["items.path=x.npz"],
            "items.path=x.npz: its lists have up to 4 items with 2 features and 1 of the list; "
            "use problem.N=4 problem.D=2 problem.C=1",
        ),
        (["items.path=x.npz", "items.features=a"], "items.features=a: must be a list, each a word or null"),
        (["items.path=x.npz", "items.features=[a]"], "items.features=['a']: is for columns"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: list[str],
    line: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(folder / "x.npz")
    assert start(monkeypatch, "items=file", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["x.npz"]
