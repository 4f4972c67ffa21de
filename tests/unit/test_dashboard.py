"""The workspace as code: what it shows, and that building it needs neither network nor key."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from selector.__main__ import main


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The section of the spec that ``--json`` prints."""
    assert main(["dashboard", "--entity", "us", "--project", "ours", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    view = json.loads(out)
    assert (view["entity"], view["project"]) == ("us", "ours")
    return view["spec"]["section"]


def panels(section: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The settings of all panels of one kind."""
    for part in section["panelBankConfig"]["sections"]:
        for panel in part["panels"]:
            if panel["viewType"] == kind:
                yield panel["config"]


def test_curves_run_over_samples_with_a_line_per_strategy_and_a_band(capsys: pytest.CaptureFixture[str]) -> None:
    section = shown(capsys)
    lines = {line["metrics"][0]: line for line in panels(section, "Run History Line Plot")}
    convergence = {"val/regret", "val/hard_loss", "val/accuracy", "val/logit_std"}
    assert lines.keys() >= convergence | {"grad/bias", "grad/std", "grad/cosine", "tau"}
    for line in lines.values():
        assert line["xAxis"] == "samples"
        assert (line["groupBy"], line["groupAgg"], line["groupArea"]) == ("group", "mean", "stderr")
        assert line["limit"] > 250
    logarithmic = {metric for metric, line in lines.items() if line["yLogScale"]}
    assert logarithmic >= {"val/regret", "val/logit_std"}
    assert not logarithmic & {"val/accuracy", "val/hard_loss", "grad/cosine", "val/gap"}  # they may be 0 or negative
    for part in section["panelBankConfig"]["sections"]:
        assert part["localPanelSettings"]["xAxis"] == "samples"
        assert part["isOpen"]


def test_the_runs_are_grouped_and_all_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    section = shown(capsys)
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]
    assert runs["filters"]["filters"] == []
    assert section["settings"]["maxRuns"] > 250


def test_final_regret_as_bars_and_against_everything_it_may_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    section = shown(capsys)
    (bars,) = panels(section, "Bar Chart")
    assert (bars["metrics"], bars["groupBy"]) == (["final/regret"], "group")
    (parallel,) = panels(section, "Parallel Coordinates Plot")
    assert [column["accessor"] for column in parallel["columns"]] == [
        "run:group",
        "summary:tau",
        "config:optimizer.value.lr",
        "config:problem.value.N",
        "config:problem.value.S",
        "summary:final/regret",
    ]


def test_one_problem_is_picked_by_its_tag(capsys: pytest.CaptureFixture[str]) -> None:
    (picked,) = shown(capsys, "--problem", "sum_target")["runSets"][0]["filters"]["filters"]
    assert picked["key"] == {"section": "run", "name": "tags"}
    assert (picked["op"], picked["value"]) == ("IN", ["sum_target"])


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for name in list(sys.modules):
        if name.startswith("wandb_workspaces."):
            monkeypatch.delitem(sys.modules, name)
    assert main(["dashboard", "--entity", "us", "--project", "ours", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == 'error: dashboard=ours: needs wandb-workspaces: pip install "selector[dashboard]"\n'
