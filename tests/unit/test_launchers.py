"""Multiruns on other processes and machines: what is refused before anything starts, and what is said of the jobs."""

import sys
import time
from pathlib import Path

import pytest

from selector import launchers, sweep
from selector.errors import InvalidInput
from selector.launch import main
from selector.launchers import LAUNCHERS, check_launcher
from selector.processes import is_lead
from tests.support import CONFIGS, compose


@pytest.fixture(autouse=True)
def _login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has SLURM's commands."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


def refused(*overrides: str) -> str:
    with pytest.raises(InvalidInput) as error:
        check_launcher(compose(*overrides))
    return str(error.value)


SLURM = "hydra/launcher=submitit_slurm"
DDP = ("accelerator=ddp", "accelerator.strategy=ddp")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["accelerator=ddp"],
        *([f"hydra/launcher={name}"] for name in LAUNCHERS if name != "ray"),
        [SLURM, "accelerator=ddp"],
        [SLURM, *DDP, "hydra.launcher.tasks_per_node=2"],
        [SLURM, *DDP, "hydra.launcher.tasks_per_node=2", "hydra.launcher.nodes=3", "+trainer.num_nodes=3"],
    ],
    ids=" ".join,
)
def test_what_fits_is_accepted(overrides: list[str]) -> None:
    check_launcher(compose(*overrides))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (DDP, "accelerator.strategy=ddp: starts the command again for every process, which in a multirun"),
        (["hydra/launcher=joblib", *DDP], "accelerator.strategy=ddp: starts the command again"),
        (["accelerator.devices=2"], "accelerator.strategy=auto: starts the command again"),
        ([SLURM, *DDP], "hydra.launcher.tasks_per_node=1: must be 2, as accelerator.devices"),
        ([SLURM, "hydra.launcher.nodes=2"], "hydra.launcher.nodes=2: must be 1, as trainer.num_nodes"),
        (
            [SLURM, "accelerator=ddp", "hydra.launcher.tasks_per_node=2"],
            "hydra.launcher.tasks_per_node=2: must be 1, accelerator.strategy=ddp_fork starts its own processes",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(overrides: list[str], line: str) -> None:
    assert refused(*overrides).startswith(line)


def test_a_plugin_or_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert refused(SLURM) == "hydra/launcher=submitit_slurm: sbatch and srun are not here; start it on a login node"
    monkeypatch.setattr(launchers, "find_spec", lambda _: None)
    assert refused(SLURM) == "hydra/launcher=submitit_slurm: is not installed; pip install -e '.[cluster]'"
    assert refused("hydra/launcher=joblib").endswith("pip install -e '.[joblib]'")


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"])
def test_one_process_of_several_leads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    assert is_lead()
    monkeypatch.setenv(name, "1")
    assert not is_lead()


def test_batches_are_split_over_all_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    argv = ["-m", SLURM, *DDP, "hydra.launcher.tasks_per_node=2", "hydra.launcher.nodes=2", "+trainer.num_nodes=2"]
    assert main(lambda: None, CONFIGS, [*argv, "batch_size=6"]) == 2
    line = "error: batch_size=6: must be a multiple of accelerator.devices=2 times trainer.num_nodes=2\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_jobs_elsewhere_are_seen_by_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders[:3]:
        folder.mkdir()
    (folders[0] / sweep.RESULT).touch()  # of an earlier command
    with sweep.watched(folders, every=0.01):
        (folders[1] / sweep.RESULT).touch()
        deadline = time.monotonic() + 10
        err = ""
        while "jobs ended" not in err and time.monotonic() < deadline:
            time.sleep(0.01)
            err += capsys.readouterr().err
    assert err.startswith("1/3 jobs ended, about ")
    with sweep.watched([folders[0], tmp_path / "e"], every=60):  # over long before the next look
        (tmp_path / "e").mkdir()
        (tmp_path / "e" / sweep.RESULT).touch()
    assert capsys.readouterr().err == "1/1 jobs ended\n"
    (folders[2] / sweep.FAILED).write_text("ValueError: why\n\nTraceback")
    assert sweep.end(folders) == 3
    assert capsys.readouterr().err.splitlines() == [
        f"failed: {folders[2]}: ValueError: why",
        f"did not start: {folders[3]}",
        "2 of 4 jobs done",
        f"What is done stays, the rest goes on with: the same command with hydra.sweep.dir={tmp_path} resume=auto",
    ]


def test_a_launcher_that_breaks_is_one_line_and_the_jobs_that_are_done_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

    def launch(self: JoblibLauncher, job_overrides: object, initial_job_idx: int) -> None:  # noqa: ARG001
        (tmp_path / "sweep" / "0-st_gumbel-seed_question").mkdir(parents=True)
        (tmp_path / "sweep" / "0-st_gumbel-seed_question" / sweep.RESULT).touch()
        raise RuntimeError("\na worker\nwas killed")

    monkeypatch.setattr(JoblibLauncher, "launch", launch)
    monkeypatch.chdir(tmp_path)
    argv = ["-m", "seed=0,1", "logger=none", "hydra/launcher=joblib", "hydra.sweep.dir=sweep"]
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    assert main(lambda: None, CONFIGS, argv) == 3
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "error: hydra/launcher=joblib: a worker"
    assert err[1:4] == ["1/2 jobs ended", "did not start: sweep/1-st_gumbel-seed_question", "1 of 2 jobs done"]
