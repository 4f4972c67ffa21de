"""Start-up, and one process against many: commands in processes of their own, in turn.

Every measurement is a ``python train.py …`` of its own, so this section takes minutes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from selector.bench.measure import Row

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "train.py")]
FEW = ["max_steps=1", "val_every=1", "held_out=8", "logger.mode=offline"]
STEPS = 1000  # of the runs of which sixteen are compared with one of sixteen seeds


def seconds(command: Sequence[str], folder: str, exit_code: int = 0, first_step_of: str | None = None) -> float:
    """How long a command takes.

    Args:
        command: the command.
        folder: where it runs.
        exit_code: how it should end.
        first_step_of: the name of a run: only the time until its first training step is in metrics.csv, validated.

    Raises:
        RuntimeError: when it ends with another code than ``exit_code``, or without a first step.
    """
    metrics = None if first_step_of is None else Path(folder) / "outputs" / first_step_of / "metrics.csv"
    with TemporaryFile("w+") as complaints:  # a pipe that nobody reads would be full one day
        began, taken = time.perf_counter(), None
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=complaints)
        while metrics is not None and taken is None and process.poll() is None:
            time.sleep(0.005)
            if metrics.exists() and "\n1," in metrics.read_text(encoding="utf-8"):
                taken = time.perf_counter() - began
        process.wait()
        whole = time.perf_counter() - began
        complaints.seek(0)
        if process.returncode != exit_code or (metrics is not None and taken is None):
            why = f"ended with {process.returncode}: {complaints.read()[-500:]}"
            raise RuntimeError(f"{' '.join(command)} {why}")
    return whole if taken is None else taken


def rows(repeat: int = 3) -> Iterator[Row]:
    """Help, a config error and a first step against the imports that they need, or do not need."""
    torch = [sys.executable, "-c", "import torch"]
    both = [sys.executable, "-c", "import lightning.pytorch, wandb"]
    cases = [
        ("--help", [*TRAIN, "--help"], 0, torch, 0.5),
        ("unknown key", [*TRAIN, "stratgy=st_gumbel"], 2, torch, 0.5),
        ("unknown choice", [*TRAIN, "strategy=st_gumble"], 2, torch, 0.5),
        ("wrong type", [*TRAIN, "batch_size=many"], 2, torch, 0.5),
        ("unknown option", [*TRAIN, "tau.strat=2"], 2, torch, 0.5),
        ("size below 1", [*TRAIN, "problem.N=0"], 2, torch, 0.5),
        ("report --help", [sys.executable, "-m", "selector", "report", "--help"], 0, torch, None),
        ("first step", [*TRAIN, *FEW], 0, both, 1.3),
    ]
    with TemporaryDirectory() as folder:
        for name, ours, code, theirs, target in cases:
            against = "import torch" if theirs is torch else "import lightning.pytorch, wandb"
            ratios = []
            for n in range(repeat + 1):
                run = f"first{n}" if name == "first step" else None
                command = ours if run is None else [*ours, f"name={run}"]
                ratios.append(seconds(command, folder, code, run) / seconds(theirs, folder))
            yield Row.of(f"start-up, {name}", against, ratios[1:], target)  # the first fills the caches of the disk


def process_rows(repeat: int = 2) -> Iterator[Row]:
    """Sixteen seeds in one process against sixteen runs, one after the other."""
    ratios = []
    with TemporaryDirectory() as folder:
        for n in range(repeat):
            one = seconds([*TRAIN, f"max_steps={STEPS}", f"name=one{n}"], folder)
            many = seconds([*TRAIN, f"max_steps={STEPS}", "seeds=16", f"name=many{n}"], folder)
            ratios.append(many / (16 * one))
    yield Row.of("16 seeds in one process, 16 runs", f"{STEPS} steps", ratios, 1 / 8)
