"""A sweep on the cores of this machine: launchers start real processes, and the folders are as of one process."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from selector.launchers import LAUNCHERS
from tests.support import ROOT, SHORT


@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_two_jobs_in_processes_of_their_own(name: str, tmp_path: Path) -> None:
    extra, target = LAUNCHERS[name]
    if find_spec(".".join(target.split(".")[:2])) is None:
        pytest.skip(f"hydra/launcher={name} is not installed; pip install -e '.[{extra}]'")
    argv = ["-m", *SHORT, "logger=none", "hydra.sweep.dir=sweep", f"hydra/launcher={name}", "seed=0,1"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "HYDRA_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *argv],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "2 of 2 jobs done"
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").glob("*/result.json"))]
    assert [result["config"]["seed"] for result in results] == [0, 1]
    assert [result["config"]["name"] for result in results] == [f"sweep-{n}-st_gumbel-seed_question" for n in (0, 1)]
    assert all(result["config"]["max_steps"] == 20 for result in results)
    share = max(1, (os.cpu_count() or 1) // 2)
    assert all(result["device"]["threads"] <= share for result in results), "threads on one core wait for each other"
