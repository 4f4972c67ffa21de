"""Hydra's flags: what would run another configuration than the checked one is refused; the others work."""

import json
import sys
from pathlib import Path

import pytest

from selector.launch import main
from tests.support import CONFIGS, SHORT
from train import train

# The command line, and how the one line begins.
REFUSED = [
    ("--config-name other", "--config-name=other: "),
    ("-cn train", "--config-name=train: "),
    ("--config-path /etc", "--config-path=/etc: "),
    ("--experimental-rerun config.pickle", "--experimental-rerun=config.pickle: "),
    ("--package strategy", "--package=strategy: must come with --cfg"),
    ("--cfg job --package nowhere", "--package=nowhere: "),
    ("--cfg nothing", "argument --cfg/-c: invalid choice"),
    ("--cfg job strategy=none", "strategy=none: must be one of "),
    ("--cfg job max_steps=x", "max_steps=x: must be a whole number"),
    ("--cfg job --resolve name=${nothing}", "name: Interpolation key 'nothing' not found"),
    ("--cfg hydra --resolve", "--resolve: must come with --cfg job"),
    ("--cfg job -m", "--multirun --cfg: must be one of them"),
    ("--resolve", "--resolve: must come with --cfg job"),
    ("--run -m", "--run --multirun: must be one of them"),
    ("--info nothing", "argument --info/-i: invalid choice"),
    ("--info defaults strategy=none", "strategy=none: must be one of "),
    ("--help strategy=none", "strategy=none: must be one of "),
    ("--no-such-flag", "unrecognized arguments: --no-such-flag"),
    ("--config-dir nowhere", "--config-dir=nowhere: no such folder"),
    ("hydra.searchpath=[pkg://os]", "hydra.searchpath=pkg://os: must be file://<folder>"),
    ("hydra.searchpath=[file://nowhere]", "hydra.searchpath=nowhere: no such folder"),
    ("hydra.searchpath=null", "hydra.searchpath=null: must be a list"),
    ("~hydra.searchpath", "hydra.searchpath=: must be a list"),
    ("hydra.mode=MULTIRUN", "hydra.mode=MULTIRUN: is left to -m"),
    ("-m hydra.mode=RUN", "hydra.mode=RUN: is left to -m"),
    ("reward=null", "reward=null: must be one of budget, "),
    ("strategy=null", "strategy=null: must be one of "),
    ("logger=null", "logger=null: must be one of none, wandb"),
    ("tau=1", "tau=1: must be one of argmax, "),
    ("sweeps=null", "sweeps=null: must be one of "),
    ("hydra/launcher=null", "hydra/launcher=null: must be one of "),
    ("-m strategy=null,st_gumbel", "strategy=null,st_gumbel: must be one of "),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


@pytest.mark.parametrize(("line", "begins"), REFUSED, ids=[line for line, _ in REFUSED])
def test_it_is_refused_in_one_line(line: str, begins: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda: pytest.fail("it was run"), CONFIGS, line.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {begins}")
    assert err.count("\n") == 1
    assert not out
    assert not list(folder.iterdir())


def test_a_folder_of_the_users_own_is_checked_and_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own" / "strategy").mkdir(parents=True)
    (folder / "own" / "strategy" / "mine.yaml").write_text("defaults: [st_gumbel]\nmode: soft\n")
    argv = ["--config-dir", "own", "strategy=mine", *SHORT, "logger=none"]
    assert main(train, CONFIGS, [*argv, "name=x"]) == 2
    assert capsys.readouterr().err.startswith("error: strategy.mode=soft: ")
    (folder / "own" / "strategy" / "mine.yaml").write_text("defaults: [st_gumbel]\n")
    for more in (["name=one"], ["-m", "hydra.sweep.dir=many", "seed=3"], ["hydra.searchpath=[]", "name=two"]):
        assert main(train, CONFIGS, [*argv, *more]) == 0
    assert len(list(folder.glob("**/result.json"))) == 3
    (many,) = (folder / "many").glob("*/result.json")
    assert json.loads(many.read_text())["config"]["seed"] == 3
    assert many.parent.name == "0-mine-seed_question"


def test_showing_runs_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(train, CONFIGS, ["--cfg", "job", "--package", "tau", "tau=constant"]) == 0
    assert "# @package tau\n" in capfd.readouterr().out
    assert not list(folder.iterdir())
