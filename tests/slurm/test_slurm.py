"""Runs on a real SLURM: a sweep, a job that fails, one that is requeued or killed, and two processes per job."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from selector import sweep
from selector.launch import main
from selector.recording import read_history
from tests.e2e.test_resume import assert_same_run, checkpoint
from tests.slurm.cluster import Slurm
from tests.slurm.conftest import Start, logs, waited
from tests.support import CONFIGS, SHORT
from train import train

LONG = ("max_steps=3000", "val_every=50", "batch_size=64")  # long enough to be disturbed


def undisturbed(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """The same sweep in this process, in the folder ``twins``."""
    monkeypatch.chdir(folder)
    argv = ["-m", *SHORT, "logger=none", "hydra.sweep.dir=twins", *overrides]
    monkeypatch.setattr("sys.argv", ["train.py", *argv])
    assert main(train, CONFIGS, argv) == 0


def runs(folder: Path) -> list[Path]:
    """The run folders of the sweep."""
    return sorted(path for path in (folder / "sweep").iterdir() if path.is_dir() and path.name[0].isdigit())


def test_a_sweep_of_four_with_one_that_fails(start: Start, tmp_path: Path) -> None:
    """2×2: seeds and critics; an infinite rate of SGD makes one diverge, and the others go on."""
    process = start("seed=0,1", "optimizer=sgd", "optimizer.lr=1e-3,1e30")
    code, err = waited(process, tmp_path)
    assert code == 3, err + logs(tmp_path)
    folders = runs(tmp_path)
    assert len(folders) == 4
    for folder in folders:
        diverges = OmegaConf.load(folder / ".hydra" / "config.yaml").optimizer.lr > 1
        assert (folder / sweep.FAILED).exists() == diverges
        assert (folder / sweep.RESULT).exists() != diverges
        if not diverges:
            assert json.loads((folder / sweep.RESULT).read_text())["config"]["name"] == f"sweep-{folder.name}"

    lines = err.splitlines()
    assert lines[-1] == "2 of 4 jobs done"
    assert sum(line.startswith("failed: sweep/") for line in lines) == 2
    assert any("jobs ended" in line for line in lines)


def process_of(folder: Path, number: int) -> int | None:
    """The python process that runs the sweep's job ``number``; None while there is none."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        ours = b"submitit.core._submit" in command and os.path.basename(command[0]).startswith(b"python")
        if ours and str(folder).encode() in command[-2] and f"SLURM_ARRAY_TASK_ID={number}".encode() in environment:
            return int(path.name)
    return None


def test_requeued_and_killed_jobs_go_on_and_end_the_same_bit_for_bit(
    start: Start, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2 is SLURM's warning before a preemption or the end of the time; -9 is what the out-of-memory killer sends."""
    process = start(*LONG, "seed=3,4")
    checkpoints = [tmp_path / "sweep" / f"{n}-st_gumbel-seed_question/checkpoints/last.ckpt" for n in (0, 1)]
    slurm.wait_until(lambda: all(path.exists() for path in checkpoints), 300)
    job = slurm.run("squeue", "-h", "-r", "-o", "%F").split()[0]
    killed = process_of(tmp_path, 1)
    assert killed is not None
    slurm.run("scancel", "--signal=USR2", f"{job}_0")
    os.kill(killed, signal.SIGKILL)
    code, err = waited(process, tmp_path)
    assert code == 0, err + logs(tmp_path)
    assert err.splitlines()[-1] == "2 of 2 jobs done"
    printed = logs(tmp_path)
    assert "Stopped at step" in printed, "a warned job finishes its step"
    assert printed.count("N 8, S 4, D 1") == 4, "every job was started twice"
    undisturbed(tmp_path, monkeypatch, *LONG, "seed=3,4")
    for folder in runs(tmp_path):
        assert_same_run(folder, tmp_path / "twins" / folder.name)


def disturb(slurm: Slurm, folder: Path, job: str, number: int, how: str) -> bool:
    """Kill or requeue the sweep's job ``number`` if it runs; whether it did."""
    process = process_of(folder, number)
    if process is None:
        return False
    if how == "kill":
        os.kill(process, signal.SIGKILL)
    else:  # the job may be over by the time the controller looks
        command = ["scancel", "--signal=USR2"] if how == "warn" else ["scontrol", "requeue"]
        command = ["timeout", "20", *command, f"{job}_{number}"]
        return subprocess.run(command, env=slurm.environment, capture_output=True).returncode == 0
    return True


def test_a_sweep_of_which_a_fifth_is_disturbed(
    start: Start, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five jobs, or as many as SELECTOR_SLURM_JOBS says. None is lost, none runs twice, all end as their twins."""
    total = int(os.environ.get("SELECTOR_SLURM_JOBS", "5"))
    chance = random.Random(total)
    # Long enough to live, on a fast machine too, when its moment has come.
    sweep_of = ("max_steps=2000", "val_every=20", "seed=" + ",".join(map(str, range(total))))
    left = {number: chance.choice(["kill", "warn", "requeue"]) for number in chance.sample(range(total), total // 5)}
    disturbed = len(left)
    process = start(*sweep_of)
    slurm.wait_until(lambda: bool(slurm.run("squeue", "-h")), 240)
    job = slurm.run("squeue", "-h", "-r", "-o", "%F").split()[0]
    seen: dict[int, float] = {}
    while process.poll() is None:
        for number in list(left):
            if number not in seen and process_of(tmp_path, number) is not None:
                # A random moment of its life: the first seconds go into imports, on any machine.
                seen[number] = time.monotonic() + chance.uniform(0, 5)
            if (
                number in seen
                and time.monotonic() > seen[number]
                and disturb(slurm, tmp_path, job, number, left[number])
            ):
                del left[number]
        time.sleep(0.2)
    code, err = waited(process, tmp_path)
    assert code == 0, err + logs(tmp_path)
    assert f"{total} of {total} jobs done" in err
    starts = logs(tmp_path).count("Loading pickle")
    print(f"{total} jobs, {disturbed - len(left)} disturbed, {starts} starts")
    assert starts > total, "what was disturbed was started again"
    assert "another process" not in logs(tmp_path)
    undisturbed(tmp_path, monkeypatch, *sweep_of)
    assert len(runs(tmp_path)) == total
    for folder in runs(tmp_path):
        assert_same_run(folder, tmp_path / "twins" / folder.name)


def test_two_tasks_of_one_job_train_together(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM starts the processes, on two nodes; they follow the path of one, in one folder."""
    process = start(
        "accelerator=ddp", "accelerator.strategy=ddp", "accelerator.devices=1", "+trainer.num_nodes=2",
        "hydra.launcher.nodes=2", 'hydra.launcher.setup=["export MASTER_ADDR=127.0.0.1"]', "seeds=2", "max_steps=50",
    )  # fmt: skip
    code, err = waited(process, tmp_path)
    assert code == 0, err + logs(tmp_path)
    (folder,) = runs(tmp_path)
    undisturbed(tmp_path, monkeypatch, "seeds=2", "max_steps=50")
    ours, theirs = (checkpoint(path)["state_dict"] for path in (folder, tmp_path / "twins" / folder.name))
    for key, value in theirs.items():
        assert torch.allclose(ours[key], value, atol=1e-5, rtol=0), key
    records = read_history(folder / "metrics.csv").records
    assert [record.step for record in records] == [0, 10, 20, 30, 40, 50]
