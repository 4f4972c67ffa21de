"""Kill a run with SIGKILL again and again, resume it each time, and compare it with one that was left alone.

    python -m tests.kills --kills 20 strategy=st_gumbel

Every attempt is a process forked from this one, which has imported everything: it starts in a fraction of a second.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import selector.run
import selector.training  # noqa: F401 - so that the forked processes need not import it
from selector.launch import main
from selector.loading import read_checkpoint
from tests.e2e.test_resume import assert_same_run
from tests.support import CONFIGS
from train import train

SMALL = ["val_every=20", "batch_size=16", "held_out=32", "network.width=8", "seeds=2", "logger=none", "probe.every=35"]


def attempt(arguments: Sequence[str]) -> int:
    """Start ``python train.py <arguments>``; returns the process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        sys.argv = ["train.py", *arguments]
        os._exit(main(train, CONFIGS, arguments))
    finally:
        os._exit(1)


def kill_again_and_again(overrides: Sequence[str], kills: int, steps: int) -> list[int]:
    """Kill and resume a run until it was killed ``kills`` times, let it end, and compare it with one left alone.

    Returns:
        The steps of the newest checkpoint at each kill; -1 before the first one.

    Raises:
        AssertionError: when the two differ in a bit.
    """
    arguments = [*SMALL, *overrides, f"max_steps={steps}", "resume=auto"]
    dice = random.Random(kills)
    at: list[int] = []
    last = Path("outputs/killed/checkpoints/last.ckpt")
    while len(at) < kills:
        pid = attempt([*arguments, "name=killed"])
        stamp = last.stat().st_mtime_ns if last.exists() else None
        progress = steps // val_every() * (len(at) + dice.random()) / kills
        deadline = time.monotonic() + (0.5 * dice.random() if dice.random() < 0.2 else 120)  # some while it starts
        while time.monotonic() < deadline:
            done = os.waitpid(pid, os.WNOHANG)
            if done[0]:
                raise AssertionError(f"the run ended ({done[1]}) before it was killed {kills} times, after {at}")
            now = last.stat().st_mtime_ns if last.exists() else None
            if now != stamp:
                stamp = now
                if step_of(last) >= progress * val_every():
                    time.sleep(0.05 * dice.random())
                    break
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            raise AssertionError(f"the run ended before it was killed {kills} times, after {at}")
        at.append(step_of(last) if last.exists() else -1)
    for name in ("killed", "whole"):
        _, status = os.waitpid(attempt([*arguments, f"name={name}"]), 0)
        assert os.waitstatus_to_exitcode(status) == 0, name
    assert_same_run(Path("outputs/killed"), Path("outputs/whole"))
    return at


def val_every() -> int:
    """Steps between two checkpoints."""
    return int(SMALL[0].removeprefix("val_every="))


def step_of(path: Path) -> int:
    """The step that a checkpoint was written at."""
    return int(read_checkpoint(path)["global_step"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        began = time.monotonic()
        steps = kill_again_and_again(given.overrides, given.kills, given.steps)
        took = time.monotonic() - began
    print(f"{' '.join(given.overrides)}: {len(steps)} kills, newest checkpoints {steps}, {took:.0f} s: bit-identical")
