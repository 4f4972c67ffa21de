"""Online runs, offline runs that are sent later, and the dashboard, against a stand-in of W&B on this machine."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from selector.__main__ import main as command
from selector.launch import main
from selector.recording import read_history
from tests.support import CONFIGS, SHORT
from tests.wandb_server import WandbRun, WandbServer
from train import train


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python train.py <arguments>`` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, arguments)


def assert_same_numbers(ours: WandbRun, folder: Path, seed: int) -> None:
    """The server has what metrics.csv and result.json hold for ``seed``, bit for bit."""
    history = read_history(folder / "metrics.csv")
    r = list(history.seeds).index(seed)
    expected = [
        {"step": record.step, "samples": record.samples, **{key: values[r] for key, values in record.values.items()}}
        for record in history.records
    ]
    assert ours.history == expected
    assert [row["samples"] for row in ours.history] == list(range(0, 160 * len(expected), 160))
    final = json.loads((folder / "result.json").read_text())["final"]["per_seed"][r]
    assert final.pop("seed") == seed
    assert {k.removeprefix("final/"): v for k, v in ours.final.items() if k.startswith("final/")} == final
    assert ours.final["val/regret"] == final["regret"]


def assert_same_run(ours: WandbRun, folder: Path, seed: int, strategy: str) -> None:
    """One run of one seed: named, grouped and configured as dashboards need it, with the numbers of its folder."""
    assert (ours.name, ours.group, ours.job_type, ours.project) == (ours.id, strategy, "train", "selector")
    assert ours.tags == ["seed_question", "mlp"]
    config = json.loads((folder / "result.json").read_text())["config"]
    shown = {key: value for key, value in ours.config.items() if key != "_wandb"}
    assert shown == {key: value for key, value in config.items() if key not in ("logger", "resume")} | {"seed": seed}
    # define_metric("samples") and define_metric("*", step_metric="samples"), as W&B's configuration encodes them:
    # "1" a name, "2" a pattern, "5" the position of the step metric.
    assert [{key: node.get(key) for key in "125"} for node in ours.metrics] == [
        {"1": "samples", "2": None, "5": None},
        {"1": None, "2": "*", "5": 1},
    ]
    assert ours.finished
    assert_same_numbers(ours, folder, seed)


def test_online_there_is_one_run_per_seed_grouped_by_strategy(
    server: WandbServer, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SHORT, "logger.mode=online", "seed=3", "seeds=2", "strategy=st_gumbel,st_argmax"]
    assert run(monkeypatch, "-m", *arguments, "hydra.sweep.dir=outputs/both") == 0
    names = {"st_gumbel": "0-st_gumbel-seed_question", "st_argmax": "1-st_argmax-seed_question"}
    assert sorted(server.runs) == sorted(f"both-{name}-seed{seed}" for name in names.values() for seed in (3, 4))
    for strategy, name in names.items():
        for seed in (3, 4):
            assert_same_run(server.runs[f"both-{name}-seed{seed}"], clean / "outputs/both" / name, seed, strategy)


def test_offline_nothing_is_sent_before_sync_and_then_the_same_numbers(
    server: WandbServer, clean: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *SHORT, "name=first", "seed=3", "seeds=2") == 0
    assert run(monkeypatch, "-m", *SHORT, "strategy=softmax", "hydra.sweep.dir=outputs/many") == 0
    wandb.teardown()
    assert server.requests == []  # although there is an account, and a server that would answer
    capfd.readouterr()

    assert command(["sync", "outputs/first", "--dry-run"]) == 0
    assert len(re.findall("would send outputs/wandb/offline-run-.*-first-seed[34]\n", capfd.readouterr().out)) == 2
    assert server.requests == []

    assert command(["sync", "outputs/first"]) == 0
    printed = capfd.readouterr().out
    assert len(re.findall(r"^sent +outputs/wandb/offline-run-.*-first-seed[34]\n", printed, re.MULTILINE)) == 2
    assert "2 of 2 runs sent." in printed
    assert sorted(server.runs) == ["first-seed3", "first-seed4"]
    for seed in (3, 4):
        assert_same_run(server.runs[f"first-seed{seed}"], clean / "outputs/first", seed, "st_gumbel")

    assert command(["sync"]) == 0
    assert "2 of 3 were sent before." in capfd.readouterr().out
    job = "0-softmax-seed_question"
    assert_same_run(server.runs[f"many-{job}-seed0"], clean / "outputs/many" / job, 0, "softmax")

    asked = len(server.requests)
    assert command(["sync", "outputs/many"]) == 0  # nothing is left
    assert len(server.requests) == asked
    assert capfd.readouterr().out == "1 of 1 were sent before.\n"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_resumed_run_goes_on_where_it_was(
    mode: str,
    server: WandbServer,
    clean: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *SHORT, f"logger.mode={mode}", "name=long") == 0
    capfd.readouterr()
    assert run(monkeypatch, "resume=outputs/long", "max_steps=40") == 0
    assert "wandb" not in capfd.readouterr().err
    if mode == "offline":
        assert command(["sync", "outputs/long"]) == 0
        assert "2 of 2 runs sent." in capfd.readouterr().out
    assert list(server.runs) == ["long-seed0"]
    assert len(server.runs["long-seed0"].history) == 5
    assert_same_numbers(server.runs["long-seed0"], clean / "outputs/long", 0)


def test_a_run_that_the_server_refuses_is_reported_and_can_be_sent_again(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *SHORT, "name=refused") == 0
    server.down = True
    assert command(["sync"]) == 1
    printed = capfd.readouterr().out
    assert re.search(r"^NOT sent +outputs/wandb/offline-run-.*-refused-seed0$", printed, re.MULTILINE)
    assert "0 of 1 runs sent." in printed
    server.down = False
    assert command(["sync"]) == 0
    assert server.runs["refused-seed0"].finished


def test_under_a_sweeps_agent_a_process_is_one_run_with_the_id_that_the_agent_gave(
    server: WandbServer, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "thesweep")
    monkeypatch.setenv("WANDB_RUN_ID", "theid")
    monkeypatch.setenv("WANDB_PROJECT", "selector")
    assert run(monkeypatch, *SHORT, "logger.mode=online", "name=wandb-${oc.env:WANDB_RUN_ID}", "seeds=2") == 0
    assert list(server.runs) == ["theid"]
    ours = server.runs["theid"]
    assert (ours.sweep, ours.group, ours.config["seeds"]) == ("thesweep", "st_gumbel", [0, 1])
    mean = json.loads((clean / "outputs/wandb-theid/result.json").read_text())["final"]["mean"]
    assert ours.final["final/regret"] == pytest.approx(mean["regret"], rel=1e-12)


def test_the_dashboard_is_saved(server: WandbServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["dashboard", "--entity", "us", "--project", "ours", "--problem", "sum_target"]) == 0
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["type"]) == ("us", "ours", "project-view")
    assert view["displayName"] == "Strategies on sum_target"
    name = re.fullmatch("nw-(.*)-v", view["name"])
    assert name is not None
    assert capsys.readouterr().out == f"dashboard  {server.url}/us/ours?nw={name[1]}\n"

    # What was saved is what --json prints, but for the names that W&B draws for panels.
    assert command(["dashboard", "--entity", "us", "--project", "ours", "--problem", "sum_target", "--json"]) == 0
    assert unnamed(json.loads(capsys.readouterr().out)["spec"]) == unnamed(view["spec"])


def unnamed(spec: Any) -> Any:
    """A workspace's spec without the random names of its panels."""
    if isinstance(spec, dict):
        return {key: unnamed(value) for key, value in spec.items() if key != "__id__"}
    return [unnamed(value) for value in spec] if isinstance(spec, list) else spec


def test_a_dashboard_that_the_server_refuses_is_one_line(
    server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.down = True
    assert command(["dashboard", "--entity", "us", "--project", "ours"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: dashboard=us/ours: the server refused")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("clean")
def test_dashboard_and_sync_without_a_key_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["dashboard", "--entity", "us", "--project", "ours"]) == 2
    assert capsys.readouterr().err.startswith("error: dashboard=us/ours: needs a W&B API key")
    assert run(monkeypatch, *SHORT, "name=kept") == 0
    capsys.readouterr()
    assert command(["sync", "outputs/kept"]) == 2
    assert capsys.readouterr().err.startswith("error: sync=outputs/wandb: needs a W&B API key")
