"""A run that was stopped goes on as if it had not been: parameters and metrics are the same, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from selector import Result, fit
from selector.experiment import build_experiment
from selector.files import sole_process
from selector.launch import main
from selector.recording import read_history
from tests.support import CONFIGS, ROOT, compose, names
from train import train

CLOCK = {"seconds", "steps_per_s", "samples_per_s"}


def values(folder: Path) -> list[tuple[int, int, dict[str, list[float]]]]:
    """All records of a run without those that depend on the clock."""
    records = read_history(folder / "metrics.csv").records
    return [(r.step, r.samples, {k: v for k, v in r.values.items() if k not in CLOCK}) for r in records]


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return state


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal in structure, and bit for bit in every tensor."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    else:
        assert ours == theirs, where


def assert_same_run(ours: Path, theirs: Path) -> None:
    assert values(ours) == values(theirs)
    a, b = checkpoint(ours), checkpoint(theirs)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "selector", "global_step"):
        assert_same(a[key], b[key], key)


class Crash(pl.Callback):
    """Stops the process's training in the middle of a validation period."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crash")


# A small critic, whose buffer of 64 goes round within a run of 30 steps.
LEARNED = [
    "critic=learned",
    "reward=noisy_target",
    "critic.width=8",
    "critic.warmup=32",
    "critic.warmup_updates=3",
    "critic.observations=8",
    "critic.rows=16",
    "critic.buffer=64",
]


def train_in(folder: Path, overrides: list[str], **options: Any) -> Result:
    cfg = compose("network.width=8", "problem.N=4", "problem.S=2", "seeds=2", "max_steps=30", *overrides)
    made = build_experiment(cfg)
    sizes: dict[str, Any] = {"steps": cfg.max_steps, "batch_size": 8, "val_every": 10, "held_out": 16}
    _, result = fit(
        made.problem, made.network, made.strategy, made.tau, optimizer=made.optimizer, trainer=made.trainer,
        critic=made.critic, folder=folder, **sizes, **options,
    )  # fmt: skip
    return result


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"strategy={name}"] for name in names("strategy")),
        ["trainer.accumulate_grad_batches=3"],
        ["optimizer=sgd", "optimizer.schedule=cosine", "optimizer.warmup=5", "optimizer.clip=0.1"],
        ["network=pointer", "optimizer=adamw", "optimizer.schedule=linear"],
        LEARNED,
        [*LEARNED, "strategy=local_expectation", "critic.updates=2", "trainer.accumulate_grad_batches=2"],
    ],
    ids=" ".join,
)
def test_a_crash_within_a_validation_period_changes_nothing(overrides: list[str], tmp_path: Path) -> None:
    train_in(tmp_path / "whole", overrides)
    with pytest.raises(RuntimeError, match="crash"):
        train_in(tmp_path / "crashed", overrides, callbacks=[Crash(17)])
    assert checkpoint(tmp_path / "crashed")["global_step"] == 10
    train_in(tmp_path / "crashed", overrides, resume=True)
    assert_same_run(tmp_path / "crashed", tmp_path / "whole")


def test_a_finished_run_trains_on(tmp_path: Path) -> None:
    """More steps of a constant temperature are the same as having asked for them at once."""
    train_in(tmp_path / "whole", ["strategy=st_sampled"])
    train_in(tmp_path / "longer", ["strategy=st_sampled", "max_steps=20"])
    train_in(tmp_path / "longer", ["strategy=st_sampled"], resume=True)
    assert_same_run(tmp_path / "longer", tmp_path / "whole")


def test_an_old_history_behind_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    """A kill between a record and its checkpoint leaves a record too many, perhaps a torn one."""
    train_in(tmp_path / "whole", [])
    train_in(tmp_path / "torn", ["max_steps=20", "tau.steps=30"])
    with (tmp_path / "torn" / "metrics.csv").open("a") as f:
        f.write("30,240,0,val/regret,0.25\n30,240,1,val/regret,0.2")
    train_in(tmp_path / "torn", [], resume=True)
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_kill_9_and_resume_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: a process that is killed, `resume=<folder>`, and beside it a run that nobody disturbed."""
    monkeypatch.chdir(tmp_path)
    arguments = ["max_steps=400", "val_every=10", "batch_size=64", "held_out=64", "seeds=2", "seed=3", "logger=none"]
    process = subprocess.Popen([sys.executable, ROOT / "train.py", *arguments, "name=killed"], stdout=subprocess.PIPE)
    killed, whole = tmp_path / "outputs" / "killed", tmp_path / "outputs" / "whole"
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "last.ckpt").exists() or len(read_history(killed / "metrics.csv").records) < 4:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert checkpoint(killed)["global_step"] < 400
    assert not (killed / "result.json").exists()
    (killed / "checkpoints" / ".last.ckpt.1.tmp").write_bytes(b"torn")  # as a kill within a checkpoint leaves it

    for command in ([f"resume={killed}"], [*arguments, "name=whole"]):
        monkeypatch.setattr(sys, "argv", ["train.py", *command])
        assert main(train, CONFIGS, command) == 0
    assert_same_run(killed, whole)
    assert not [p for p in killed.rglob("*") if p.name.endswith(".tmp")]
    again = [f"resume={killed}"]
    stamp = (killed / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    monkeypatch.setattr(sys, "argv", ["train.py", *again])
    assert main(train, CONFIGS, again) == 0
    assert (killed / "checkpoints" / "last.ckpt").stat().st_mtime_ns == stamp


def test_what_may_not_change_when_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "name=run",
        "max_steps=2",
        "val_every=1",
        "batch_size=4",
        "held_out=4",
        "network.width=4",
        "logger=none",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert main(train, CONFIGS, arguments) == 0
    capsys.readouterr()
    folder = Path("outputs/run")
    before = (folder / "metrics.csv").read_bytes()
    for more, key in (
        ([f"resume={folder}", "network.width=16"], "network.width=16"),
        ([f"resume={folder}", "seeds=2"], "seeds=2"),
        (arguments, "name=run"),
    ):
        monkeypatch.setattr(sys, "argv", ["train.py", *more])
        assert main(train, CONFIGS, more) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {key}: ")
        assert err.count("\n") == 1
    assert (folder / "metrics.csv").read_bytes() == before


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python train.py <arguments>`` in this process, from ``folder``."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, list(arguments))


SMALL = ["val_every=10", "batch_size=16", "held_out=32", "network.width=8", "logger=none", "name=x"]


def test_a_run_with_early_stopping_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoints lie at the end of a Lightning epoch, which Lightning ends once more without a validation."""
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=20", "patience=100", "stop_at_regret=1e-9") == 0
    assert start(tmp_path, monkeypatch, "resume=outputs/x", "max_steps=40", "logger=none") == 0
    assert [r.step for r in read_history(tmp_path / "outputs/x/metrics.csv").records] == [0, 10, 20, 30, 40]


def test_patience_may_be_given_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate of nearly nothing: no validation is better than the first one."""
    still = [*SMALL, "optimizer.lr=1e-12"]
    assert start(tmp_path, monkeypatch, *still, "max_steps=100", "patience=2") == 0
    steps = read_history(tmp_path / "outputs/x/metrics.csv").records[-1].step
    assert steps < 100
    assert start(tmp_path, monkeypatch, "resume=outputs/x", "max_steps=100", "patience=50", "logger=none") == 0
    assert read_history(tmp_path / "outputs/x/metrics.csv").records[-1].step == 100


def test_going_on_with_fewer_steps_is_refused_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=30") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert start(tmp_path, monkeypatch, "resume=outputs/x", "max_steps=20", "logger=none") == 2
    assert capsys.readouterr().err == "error: max_steps=20: the run in outputs/x is at step 30 already\n"
    assert {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*") if path.is_file()} == before


def test_a_process_that_finds_the_folder_taken_leaves_all_in_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with sole_process(tmp_path / "outputs/x"):
        assert start(tmp_path, monkeypatch, *SMALL, "max_steps=10") == 2
    assert capsys.readouterr().err == "error: name=outputs/x: another process is running in this folder\n"
    assert [path.name for path in (tmp_path / "outputs/x").iterdir()] == [".lock"]


def test_the_checkpoint_itself_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the files in .hydra/ are another run's, or are gone."""
    other = [*SMALL, "max_steps=40", "resume=auto", "network.width=9"]
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=20") == 0
    config = tmp_path / "outputs/x/.hydra/config.yaml"
    theirs = config.read_text()
    assert "width: 8" in theirs
    for ours in (theirs.replace("width: 8", "width: 9"), None):
        if ours is None:
            config.unlink()
        else:
            config.write_text(ours)
        capsys.readouterr()
        assert start(tmp_path, monkeypatch, *other) == 2
        err = capsys.readouterr().err
        assert err == "error: resume=outputs/x: its checkpoint was written by a run with another configuration\n"
    assert start(tmp_path, monkeypatch, *other[:-1]) == 0
    assert [r.step for r in read_history(tmp_path / "outputs/x/metrics.csv").records] == [0, 10, 20, 30, 40]
