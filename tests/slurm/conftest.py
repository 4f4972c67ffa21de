"""One SLURM for all tests of this folder, and train.py on it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Slurm, why_not
from tests.support import ROOT, SHORT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slurm)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(slurm: Slurm, tmp_path: Path) -> Iterator[Start]:
    """Start ``python train.py -m <arguments>`` in the sweep folder ``sweep`` on the cluster."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable, str(ROOT / "train.py"), "-m", *SHORT, "logger=none", "hydra/launcher=submitit_slurm",
            "hydra.sweep.dir=sweep", "hydra.launcher.mem_gb=1", *arguments,
        ]  # fmt: skip
        environment = {**slurm.environment, "PYTHONPATH": str(ROOT)}
        environment.pop("HYDRA_FULL_ERROR", None)
        with (tmp_path / "out.txt").open("w") as out, (tmp_path / "err.txt").open("w") as err:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=err, text=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    for job in slurm.run("squeue", "-h", "-o", "%A").split():
        slurm.run("scancel", job)


def waited(process: "subprocess.Popen[str]", folder: Path, seconds: float = 600) -> tuple[int, str]:
    """Its exit code, and what it wrote to stderr."""
    code = process.wait(seconds)
    return code, (folder / "err.txt").read_text()


def logs(folder: Path) -> str:
    """What the jobs of a sweep printed, for messages of failed assertions."""
    files = sorted((folder / "sweep" / ".submitit").glob("*/*_log.out"))
    return "\n".join(f"{file.name}\n{file.read_text()}" for file in files if os.path.getsize(file))
