"""Whole runs: what they leave behind, what they print, what W&B keeps, two processes, and what is learned."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from selector import Pointer, Problem, Result, Strategy, fit
from selector.__main__ import main as command
from selector.critics import TargetValue
from selector.items import Uniform
from selector.launch import main
from selector.optimizer import Adam
from selector.recording import read_history
from selector.schedules import Constant, Exponential, Schedule
from selector.strategies import STArgmax, STGumbel
from tests.support import CONFIGS, ROOT, SHORT, small_network, small_problem
from train import train

PRINTED = ["hard_loss", "oracle_loss", "regret", "accuracy", "logit_std"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a run; W&B is told nothing by the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_DIR", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python train.py <arguments>`` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, arguments)


def table(printed: str) -> dict[str, list[str]]:
    """The rows of a printed table: the first cell -> the others."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in printed.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def test_a_run_leaves_its_files_and_evaluate_prints_the_same_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *SHORT, "name=first", "seed=3", "seeds=2", "strategy=st_gumbel") == 0
    printed = capsys.readouterr().out
    left = folder / "outputs" / "first"
    for name in ("metrics.csv", "result.json", "convergence.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (left / name).stat().st_size > 0
        assert name.split("/")[0] in printed
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        assert (left / ".hydra" / name).exists()
    assert (left / "convergence.png").read_bytes().startswith(b"\x89PNG")

    result = json.loads((left / "result.json").read_text())
    assert result["seeds"] == [3, 4]
    assert (result["steps"], result["samples"]) == (20, 20 * 16)
    assert result["config"]["max_steps"] == 20
    shown = table(printed)
    for row in result["final"]["per_seed"]:
        assert shown[str(row["seed"])] == [f"{row[key]:.4f}" for key in PRINTED]
    assert shown["mean"] == [f"{result['final']['mean'][key]:.4f}" for key in PRINTED]
    last = read_history(left / "metrics.csv").records[-1]
    assert last.values["val/regret"] == [row["regret"] for row in result["final"]["per_seed"]]

    assert command(["evaluate", "outputs/first", "--figure", "logits.png"]) == 0
    again = table(capsys.readouterr().out)
    assert {seed: again[seed] for seed in ("3", "4", "mean")} == {seed: shown[seed] for seed in ("3", "4", "mean")}
    assert (folder / "logits.png").read_bytes().startswith(b"\x89PNG")


def test_a_multirun_trains_every_job_in_a_folder_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "-m", *SHORT, "logger=none", "strategy=st_gumbel,st_argmax", "hydra.sweep.dir=sweep") == 0
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("sweep/*/result.json"))]
    assert [r["config"]["strategy"]["_target_"].split(".")[-1] for r in results] == ["STGumbel", "STArgmax"]


def offline_runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """run id -> the records of its file, by W&B's own reader."""
    found = {}
    for file in sorted(folder.glob("outputs/wandb/offline-run-*/run-*.wandb")):
        reader = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", file]
        lines = subprocess.run(reader, capture_output=True, text=True, check=True).stdout.splitlines()
        found[file.stem.removeprefix("run-")] = [json.loads(line) for line in lines]
    return found


def test_wandb_keeps_one_offline_run_per_seed_with_the_numbers_of_metrics_csv(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, *SHORT, "name=logged", "seed=3", "seeds=2") == 0
    runs = offline_runs(folder)
    assert sorted(runs) == ["logged-seed3", "logged-seed4"]
    history = read_history(folder / "outputs" / "logged" / "metrics.csv")
    final = json.loads((folder / "outputs" / "logged" / "result.json").read_text())["final"]["per_seed"]
    for r, records in enumerate(runs.values()):
        (about,) = [record["run"] for record in records if record["type"] == "run"]
        assert about["run_group"] == "st_gumbel"
        assert about["job_type"] == "train"
        assert about["config"]["update"]["seed"] == 3 + r
        axes = [record["metric"] for record in records if record["type"] == "metric"]
        assert any(axis.get("glob_name") == "*" and axis["step_metric"] == "samples" for axis in axes)
        logged = [record["history"]["item"] for record in records if record["type"] == "history"]
        assert len(logged) == len(history.records)
        for item, record in zip(logged, history.records, strict=True):
            expected = {key: values[r] for key, values in record.values.items()}
            expected |= {"step": record.step, "samples": record.samples}
            assert {key: value for key, value in item.items() if not key.startswith("_")} == expected
        summary: dict[str, float] = {}
        for record in records:
            if record["type"] == "summary":
                summary |= record["summary"]["update"]
        assert summary["final/regret"] == final[r]["regret"]


def test_above_max_runs_wandb_keeps_one_aggregated_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, *SHORT, "name=many", "seeds=3", "logger.max_runs=2") == 0
    runs = offline_runs(folder)
    assert list(runs) == ["many-all-seeds"]
    history = read_history(folder / "outputs" / "many" / "metrics.csv")
    logged = [record["history"]["item"] for record in runs["many-all-seeds"] if record["type"] == "history"]
    for item, record in zip(logged, history.records, strict=True):
        regrets = record.values["val/regret"]
        mean = sum(regrets) / 3
        assert item["val/regret"] == pytest.approx(mean, rel=1e-12)
        assert item["val/regret/std"] == pytest.approx((sum((x - mean) ** 2 for x in regrets) / 3) ** 0.5)


@pytest.mark.parametrize("strategy", ["st_gumbel", "reinforce"])  # reinforce: its baseline is of the whole batch
def test_two_processes_follow_the_path_of_one(strategy: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are sums in another order, so up to rounding."""
    arguments = [*SHORT, "max_steps=50", "seeds=2", f"strategy={strategy}"]
    two = [sys.executable, ROOT / "train.py", *arguments, "accelerator=ddp", "name=two"]
    done = subprocess.run(two, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(offline_runs(folder)) == ["two-seed0", "two-seed1"]
    assert run(monkeypatch, *arguments, "name=one", "logger=none") == 0
    one_run, two_run = (read_history(folder / "outputs" / name / "metrics.csv").records for name in ("one", "two"))
    assert [record.step for record in two_run] == [record.step for record in one_run]
    for ours, theirs in zip(two_run, one_run, strict=True):
        assert ours.samples == theirs.samples
        for key, values in theirs.values.items():
            if key not in ("seconds", "steps_per_s", "samples_per_s"):
                assert ours.values[key] == pytest.approx(values, abs=1e-5, rel=1e-5), key
    one, two_states = (
        torch.load(folder / "outputs" / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    )
    for key, value in one.items():
        assert torch.allclose(two_states[key], value, atol=1e-5, rtol=0), key
    assert (folder / "outputs" / "two" / "result.json").exists()
    assert sorted(path.name for path in (folder / "outputs").iterdir()) == ["one", "two", "wandb"]


def test_a_seed_reaches_the_same_alone_and_beside_others() -> None:
    def reached(seeds: tuple[int, ...]) -> Result:
        sizes = {"steps": 30, "val_every": 10, "batch_size": 32, "held_out": 32}
        return fit(small_problem(), small_network(seeds), STGumbel(), Constant(value=1.0), **sizes)[1]  # type: ignore[arg-type]

    together = reached((3, 4, 5))
    for r, seed in enumerate((3, 4, 5)):
        for key, values in reached((seed,)).metrics.items():
            assert values[0] == pytest.approx(together.metrics[key][r], rel=1e-4, abs=1e-5), key


def test_it_stops_at_the_regret_that_was_asked_for() -> None:
    _, result = fit(
        small_problem(), small_network(width=32), STGumbel(),
        steps=2000, batch_size=64, val_every=20, held_out=64, stop_at_regret=0.5, optimizer=Adam(lr=0.01),
    )  # fmt: skip
    regrets = [record.values["val/regret"][0] for record in result.history.records]
    assert result.steps < 2000
    assert regrets[-1] <= 0.5
    assert all(regret > 0.5 for regret in regrets[1:-1])


def test_it_stops_when_patience_is_over() -> None:
    """With a learning rate of next to nothing no validation is better than the first."""
    _, result = fit(
        small_problem(), small_network(), STGumbel(),
        steps=500, batch_size=4, val_every=5, held_out=16, patience=3, optimizer=Adam(lr=1e-12),
    )  # fmt: skip
    assert result.steps == 20


@pytest.mark.parametrize(
    ("strategy", "tau", "learns"),
    [(STGumbel(), Exponential(start=2.0, end=0.5, steps=600), True), (STArgmax(), Constant(value=0.6), False)],
    ids=["st_gumbel", "st_argmax"],
)
def test_noise_is_what_makes_straight_through_learn(strategy: Strategy, tau: Schedule, learns: bool) -> None:
    """The project's thread in a few seconds: items in 0..10, put the one nearest 5 into each slot."""
    problem = Problem(Uniform(0.0, 10.0), TargetValue(5.0), N=8, S=2, D=1)
    network = Pointer(8, 2, 1, seeds=(0, 1, 2), width=32)
    options = Adam(lr=5e-3)
    _, result = fit(
        problem, network, strategy, tau, steps=600, batch_size=128, val_every=600, held_out=256, optimizer=options
    )
    if learns:
        assert max(result.metrics["regret"]) < 0.2
    else:
        assert min(result.metrics["regret"]) > 0.8
        assert max(result.metrics["logit_std"]) < 0.5
