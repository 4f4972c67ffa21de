"""Signals, damaged checkpoints and full disks: what a run leaves behind, and that it goes on as if nothing had been."""

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from selector.checkpoints import DamagedCheckpoint, newest, read_checkpoint
from selector.recording import Record, read_history
from selector.stopping import Stopped
from tests.e2e.test_resume import SMALL, assert_same_run, checkpoint, start, train_in, values


class Send(pl.Callback):
    """Sends signals to this process at a step, some time apart."""

    def __init__(self, step: int, *signals: int, apart: float = 0.0) -> None:
        self.step, self.signals, self.apart = step, signals, apart

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.step:
            for signum in self.signals:
                os.kill(os.getpid(), signum)
                time.sleep(self.apart)
            self.signals = ()


@pytest.mark.parametrize("step", [17, 20, 30], ids="step {}".format)
@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=st_gumbel", "probe.every=4"],
        ["strategy=relax", "optimizer.schedule=cosine"],
        ["strategy=rloo", "trainer.accumulate_grad_batches=3"],
    ],
    ids=" ".join,
)
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on_there(
    overrides: list[str], step: int, tmp_path: Path
) -> None:
    every = {"probe_every": 4} if "probe.every=4" in overrides else {}
    train_in(tmp_path / "whole", overrides, **every)
    with pytest.raises(Stopped) as stop:
        train_in(tmp_path / "stopped", overrides, callbacks=[Send(step, signal.SIGINT)], **every)
    assert (stop.value.step, stop.value.exit_code) == (step, 130)
    assert checkpoint(tmp_path / "stopped")["global_step"] == step
    train_in(tmp_path / "stopped", overrides, resume=True, **every)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_can_be_stopped_again_and_again(tmp_path: Path) -> None:
    train_in(tmp_path / "whole", [])
    for step in (3, 4, 9, 10, 11, 26):
        with pytest.raises(Stopped):
            train_in(tmp_path / "stopped", [], resume=step > 3, callbacks=[Send(step, signal.SIGINT)])
    train_in(tmp_path / "stopped", [], resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_signal_within_a_call_of_several_steps(tmp_path: Path) -> None:
    """Without callbacks that see single steps: the signal comes from outside."""
    train_in(tmp_path / "whole", ["max_steps=600"])

    def send() -> None:
        while not (tmp_path / "stopped/checkpoints/last.ckpt").exists():
            time.sleep(0.001)
        time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(Stopped) as stop:
        train_in(tmp_path / "stopped", ["max_steps=600"], steps_per_call=5)
    thread.join()
    assert stop.value.step == checkpoint(tmp_path / "stopped")["global_step"]
    assert stop.value.step < 600
    train_in(tmp_path / "stopped", ["max_steps=600"], resume=True, steps_per_call=2)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_sigterm_is_a_clean_end_as_well(tmp_path: Path) -> None:
    with pytest.raises(Stopped) as stop:
        train_in(tmp_path / "run", [], callbacks=[Send(13, signal.SIGTERM, signal.SIGTERM)])
    assert (stop.value.step, stop.value.exit_code) == (13, 143)


def test_a_second_sigint_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stop:
        train_in(tmp_path / "run", [], callbacks=[Send(13, signal.SIGINT, signal.SIGINT, apart=0.35)])
    assert not isinstance(stop.value, Stopped)
    assert checkpoint(tmp_path / "run")["global_step"] == 10


def test_two_signals_at_once_are_one_request(tmp_path: Path) -> None:
    """As a terminal and a launcher send them to the same process."""
    with pytest.raises(Stopped):
        train_in(tmp_path / "run", [], callbacks=[Send(13, signal.SIGINT, signal.SIGINT)])
    assert checkpoint(tmp_path / "run")["global_step"] == 13


def test_a_handler_of_somebody_else_stays(tmp_path: Path) -> None:
    """A scheduler's launcher has its own idea of SIGTERM."""
    got = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: got.append(signum))
    try:
        train_in(tmp_path / "run", [], callbacks=[Send(13, signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]


def test_signals_are_left_alone_in_a_thread(tmp_path: Path) -> None:
    """Only the main thread of a process can handle them."""
    thread = threading.Thread(target=train_in, args=(tmp_path / "run", []))
    thread.start()
    thread.join()
    assert checkpoint(tmp_path / "run")["global_step"] == 30


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_says_what_happened_and_how_to_go_on(
    signum: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def send() -> None:
        while not (tmp_path / "outputs/x/checkpoints/last.ckpt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=20000") == code
    thread.join()
    out, err = capfd.readouterr()
    step = checkpoint(tmp_path / "outputs/x")["global_step"]
    assert f"Stopped at step {step}, which outputs/x/checkpoints/last.ckpt holds.\n" in out
    assert out.endswith("Go on with: python train.py resume=outputs/x\n")
    assert err.strip().splitlines()[0].startswith(f"{signal.Signals(signum).name}: stopping after this step")
    assert err.endswith("interrupted\n")
    assert start(tmp_path, monkeypatch, "resume=outputs/x", f"max_steps={step + 5}") == 0
    out = capfd.readouterr().out
    assert f"Going on from step {step}.\n" in out
    assert f"max_steps was 20000: schedules that ended there now end at {step + 5}.\n" in out


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    train_in(tmp_path, [])
    files = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert files == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    steps = {name: read_checkpoint(tmp_path / "checkpoints" / name)["global_step"] for name in files}
    assert (steps["previous.ckpt"], steps["last.ckpt"]) == (20, 30)
    trained = [r for r in read_history(tmp_path / "metrics.csv").records if r.step]

    def regret(record: Record) -> float:
        return sum(record.values["val/regret"])

    assert steps["best.ckpt"] == min(trained, key=regret).step


def test_the_best_one_is_a_file_of_its_own(tmp_path: Path) -> None:
    """What damages the newest checkpoint in place must not damage the best one as well."""
    train_in(tmp_path, ["max_steps=10"])
    last, best = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    assert not last.samefile(best)
    assert last.read_bytes() == best.read_bytes()


@pytest.mark.parametrize("part", ["noise", "optimizer_states"])
def test_a_checkpoint_without_what_a_continuation_needs_is_passed_over(part: str, tmp_path: Path) -> None:
    train_in(tmp_path / "whole", [])
    train_in(tmp_path / "part", [])
    last = tmp_path / "part/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    del (content["selector"] if part == "noise" else content)[part]
    torch.save(content, last)
    found = newest(tmp_path / "part")
    assert found.note == f"{last} cannot be gone on from: {part} is missing: going on from previous.ckpt, step 20"
    train_in(tmp_path / "part", [], resume=True)
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def damage(path: Path, how: str) -> None:
    """Damage a file, but not those that share its bytes."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "altered"])
def test_a_damaged_checkpoint_is_found_out_and_the_one_before_goes_on(how: str, tmp_path: Path) -> None:
    train_in(tmp_path / "whole", [])
    train_in(tmp_path / "damaged", [])
    damage(tmp_path / "damaged/checkpoints/last.ckpt", how)
    with pytest.raises(DamagedCheckpoint, match=r"last\.ckpt is damaged"):
        read_checkpoint(tmp_path / "damaged/checkpoints/last.ckpt")
    train_in(tmp_path / "damaged", [], resume=True)
    assert_same_run(tmp_path / "damaged", tmp_path / "whole")
    for name in ("best.ckpt", "previous.ckpt"):
        read_checkpoint(tmp_path / "damaged/checkpoints" / name)


def test_the_command_line_says_that_a_checkpoint_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=40") == 0
    whole = values(tmp_path / "outputs/x")
    (tmp_path / "outputs/x/result.json").unlink()
    damage(tmp_path / "outputs/x/checkpoints/last.ckpt", "cut")
    capsys.readouterr()
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=40", "resume=auto") == 0
    out = capsys.readouterr().out
    (note,) = [line for line in out.splitlines() if "damaged" in line]
    assert note.startswith("outputs/x/checkpoints/last.ckpt is damaged: ")
    assert note.endswith(": going on from previous.ckpt, step 30")
    assert values(tmp_path / "outputs/x") == whole
    assert checkpoint(tmp_path / "outputs/x")["global_step"] == 40
    assert read_checkpoint(tmp_path / "outputs/x/checkpoints/previous.ckpt")["global_step"] == 30


def test_without_a_sound_checkpoint_it_is_an_error_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=20") == 0
    for path in (tmp_path / "outputs/x/checkpoints").iterdir():
        damage(path, "cut")
    before = {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    for arguments in (["resume=outputs/x"], [*SMALL, "max_steps=20", "resume=auto"]):
        capsys.readouterr()
        assert start(tmp_path, monkeypatch, *arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: resume=outputs/x: no sound checkpoint is there to go on from: ")
        assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "outputs").rglob("*") if path.is_file()} == before


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: writing then fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FillDisk(pl.Callback):
    """From a step on, no file can grow beyond some bytes."""

    def __init__(self, step: int, size: int, until: int = 10**9) -> None:
        self.step, self.size, self.until = step, size, until

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        full = self.step <= trainer.global_step < self.until
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size if full else hard, hard))


def test_a_full_disk_ends_the_run_and_the_last_good_checkpoint_is_intact(tmp_path: Path) -> None:
    train_in(tmp_path / "whole", [])
    message = "checkpoint of step 20 not written .File too large.; with checkpoints_required=false"
    with largest_file(10**8), pytest.raises(OSError, match=message):
        train_in(tmp_path / "full", [], callbacks=[FillDisk(15, 9000)])
    assert checkpoint(tmp_path / "full")["global_step"] == 10
    assert [p.name for p in (tmp_path / "full/checkpoints").iterdir() if p.name.endswith("tmp")] == []
    train_in(tmp_path / "full", [], resume=True)
    assert_same_run(tmp_path / "full", tmp_path / "whole")


@pytest.mark.parametrize("size", [9000, 100], ids=["no checkpoints", "nor metrics.csv"])
def test_if_told_to_the_training_goes_on_without_checkpoints(size: int, tmp_path: Path) -> None:
    train_in(tmp_path / "whole", [])
    with largest_file(10**8):
        train_in(tmp_path / "full", [], callbacks=[FillDisk(5, size, until=21)], checkpoints_required=False)
    assert_same_run(tmp_path / "full", tmp_path / "whole")


def test_a_stop_whose_checkpoint_cannot_be_written_does_not_claim_it(tmp_path: Path) -> None:
    disk_then_signal = [FillDisk(12, 9000), Send(15, signal.SIGTERM)]
    with largest_file(10**8), pytest.raises(Stopped) as stopped:
        train_in(tmp_path, [], callbacks=disk_then_signal, checkpoints_required=False)
    assert (stopped.value.signum, stopped.value.step) == (signal.SIGTERM, None)
    assert checkpoint(tmp_path)["global_step"] == 10


def test_a_full_disk_on_the_command_line_is_one_line_and_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(9000):
        assert start(tmp_path, monkeypatch, *SMALL, "max_steps=40") == 3
    err = capsys.readouterr().err
    assert err.startswith("failed: outputs/x: OSError: [Errno 27] checkpoint of step 10 not written (File too large)")
    assert err.count("\n") == 1


@pytest.mark.parametrize("early", [{"stop_at_regret": 1e9}, {"patience": 2}], ids=str)
def test_a_run_that_was_killed_after_its_decision_to_stop_has_ended(early: dict[str, Any], tmp_path: Path) -> None:
    still = ["optimizer.lr=1e-12", "max_steps=90"]
    train_in(tmp_path, still, **early)
    whole = values(tmp_path)
    assert whole[-1][0] < 90
    train_in(tmp_path, still, resume=True, **early)  # as after a kill before the result was written
    assert values(tmp_path) == whole
