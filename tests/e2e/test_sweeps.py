"""Many jobs in one command: a job that fails is kept and reported, and no run is overwritten."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import selector.run
from selector import sweep
from selector.launch import main
from tests.support import CONFIGS, SHORT
from train import train

SWEEP = ["-m", *SHORT, "logger=none", "hydra.sweep.dir=sweep", "strategy=st_gumbel,st_argmax"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    """``python train.py <arguments>`` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, arguments)


def break_strategy(monkeypatch: pytest.MonkeyPatch, name: str, before: bool) -> None:
    """Let every job with this strategy fail, before it trains or afterwards."""
    real = selector.run.fit

    def fit(problem: Any, network: Any, strategy: Any, *arguments: Any, **options: Any) -> Any:
        if before and type(strategy).__name__ == name:
            raise RuntimeError("the machine\nis on fire")
        done = real(problem, network, strategy, *arguments, **options)
        if type(strategy).__name__ == name:
            raise RuntimeError("the machine\nis on fire")
        return done

    monkeypatch.setattr(selector.run, "fit", fit)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("before", [True, False])
def test_a_job_that_fails_is_reported_and_the_others_go_on(
    before: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        break_strategy(patched, "STGumbel", before)
        assert launch(monkeypatch, SWEEP) == 3
    err = capsys.readouterr().err
    jobs = sorted(path for path in (folder / "sweep").iterdir() if path.is_dir())
    assert [job.name.split("-")[1] for job in jobs] == ["st_gumbel", "st_argmax"]
    assert [(job / "result.json").exists() for job in jobs] == [False, True]
    assert [(job / sweep.FAILED).exists() for job in jobs] == [True, False]
    kept = (jobs[0] / sweep.FAILED).read_text()
    assert kept.startswith("RuntimeError: the machine is on fire (max_steps=20 ")
    assert "strategy=st_gumbel" in kept.splitlines()[0], "the job's own overrides tell it from the others"
    assert kept.splitlines()[2].startswith("Traceback")
    last = err.splitlines()[-2:]
    assert last == [f"failed: {Path('sweep') / jobs[0].name}: {kept.splitlines()[0]}", "1 of 2 jobs done"]

    # The same command again: refused before anything is touched.
    left = contents(folder)
    assert launch(monkeypatch, SWEEP) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: name=")
    assert "holds a run already" in err
    assert contents(folder) == left

    # With resume=auto what is done stays, what failed is done.
    done = contents(jobs[1])
    assert launch(monkeypatch, [*SWEEP, "resume=auto"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "2 of 2 jobs done"
    assert not (jobs[0] / sweep.FAILED).exists()
    result = json.loads((jobs[0] / "result.json").read_text())
    assert result["steps"] == 20
    kept_files = {path: content for path, content in contents(jobs[1]).items() if ".hydra" not in path.parts}
    assert kept_files == {path: content for path, content in done.items() if ".hydra" not in path.parts}


def test_one_bad_job_is_refused_before_the_first_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SWEEP[:-1], "problem=sum_target", "problem.max_enumeration=10", "strategy=st_gumbel,supervised"]
    assert launch(monkeypatch, arguments) == 2
    assert capsys.readouterr().err.startswith("error: strategy=Supervised: needs an exact oracle")
    assert not list(folder.iterdir())


def test_failures_are_counted_in_a_folder_with_the_time_in_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument for argument in SWEEP if not argument.startswith("hydra.sweep.dir")]
    with monkeypatch.context() as patched:
        break_strategy(patched, "STGumbel", before=True)
        assert launch(monkeypatch, arguments) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "1 of 2 jobs done"
    assert len(list((folder / "outputs").iterdir())) == 1


def test_a_single_run_that_fails_is_exit_code_3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_strategy(monkeypatch, "STGumbel", before=False)
    assert launch(monkeypatch, [*SHORT, "logger=none", "name=x"]) == 3
    assert (folder / "outputs" / "x" / sweep.FAILED).read_text().startswith("RuntimeError: the machine is on fire")
    assert (folder / "outputs" / "x" / "checkpoints" / "last.ckpt").exists()


def test_a_run_whose_seeds_all_diverge_is_exit_code_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(monkeypatch, [*SHORT, "logger=none", "name=x", "optimizer=sgd", "optimizer.lr=1e30"]) == 3
    assert "the seed failed, the last at step" in capsys.readouterr().err
    assert (folder / "outputs" / "x" / sweep.FAILED).read_text().startswith("FloatingPointError: the seed failed")
    assert not (folder / "outputs" / "x" / "result.json").exists()
