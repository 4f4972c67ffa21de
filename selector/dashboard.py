"""The W&B workspace of a comparison, as code: which panels, over which axis, grouped by what.

Needs the extra ``dashboard`` (wandb-workspaces); building the workspace needs neither network nor key.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selector.account import check_account
from selector.errors import InvalidInput

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2.interface as wr
    import wandb_workspaces.workspaces as ws

# W&B draws ten runs unless told otherwise; a comparison of all strategies with ten seeds has about 250.
MOST_RUNS = 500


@dataclass(frozen=True)
class Curve:
    """One metric over ``samples``: a line per strategy, with a band over its seeds."""

    metric: str
    title: str
    log: bool = False


CONVERGENCE = [
    Curve("val/regret", "Regret (0 is the oracle, 1 is random choice)", log=True),
    Curve("val/hard_loss", "Hard loss (noise-free argmax)"),
    Curve("val/accuracy", "Accuracy (share of slots with the oracle's item)"),
    # A collapse is a spread that falls by orders of magnitude.
    Curve("val/logit_std", "Logit spread (falls when logits become equal)", log=True),
]
GRADIENT = [
    Curve("grad/bias", "Gradient: bias", log=True),
    Curve("grad/std", "Gradient: standard deviation", log=True),
    Curve("grad/cosine", "Gradient: cosine with the unbiased reference"),
]
SCHEDULE = [
    Curve("tau", "tau", log=True),
    Curve("val/entropy", "Entropy of softmax(logits)"),
    Curve("val/gap", "Soft loss minus hard loss"),
]


def workspace(entity: str, project: str, problem: str | None = None) -> "ws.Workspace":
    """The workspace; nothing is sent before its ``save()``.

    Args:
        entity: W&B user or team.
        project: W&B project.
        problem: show only runs of this problem (they carry its name as a tag); None shows all.

    Raises:
        InvalidInput: without the extra.
    """
    try:
        import wandb_workspaces.reports.v2.interface as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise InvalidInput("dashboard", project, 'needs wandb-workspaces: pip install "selector[dashboard]"') from None
    from wandb_workspaces.expr import And, Metric, Ordering, Summary, Tags

    def section(name: str, panels: "Sequence[wr.PanelTypes]", columns: int) -> "ws.Section":
        layout = ws.SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
        # A section has an axis of its own, which would win over the workspace's.
        axis = ws.SectionPanelSettings(x_axis="samples")
        return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout, panel_settings=axis)

    def curves(of: list[Curve]) -> "list[wr.LinePlot]":
        return [
            wr.LinePlot(
                title=curve.title,
                x="samples",
                y=[curve.metric],
                log_y=curve.log,
                title_x="samples (lists per seed)",
                groupby="Group",
                groupby_aggfunc="mean",
                groupby_rangefunc="stderr",
                max_runs_to_show=MOST_RUNS,
            )
            for curve in of
        ]

    bars = wr.BarPlot(
        title="Final regret",
        metrics=["final/regret"],
        title_x="regret at the end (lower is better)",
        groupby="Group",
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=MOST_RUNS,
        max_bars_to_show=MOST_RUNS,
    )
    axes: list[tuple[wr.SummaryOrConfigOnlyMetric, str, bool]] = [
        (wr.Metric("Group"), "strategy", False),
        (wr.SummaryMetric("tau"), "tau at the end", True),  # what every schedule has, whatever its options
        (wr.Config("optimizer.lr"), "lr", True),
        (wr.Config("problem.N"), "N", True),
        (wr.Config("problem.S"), "S", True),
        (wr.SummaryMetric("final/regret"), "final regret", False),
    ]
    parallel = wr.ParallelCoordinatesPlot(
        title="What the final regret depends on",
        columns=[wr.ParallelCoordinatesPlotColumn(metric=m, display_name=name, log=log) for m, name, log in axes],
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Strategies" if problem is None else f"Strategies on {problem}",
        sections=[
            section("Convergence", curves(CONVERGENCE), columns=2),
            section("Final regret", [bars, parallel], columns=2),
            section("Gradient quality (probe.every=...)", curves(GRADIENT), columns=3),
            section("Temperature", curves(SCHEDULE), columns=3),
        ],
        settings=ws.WorkspaceSettings(x_axis="samples", max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters="" if problem is None else And(Tags().isin([problem])),
            groupby=[Metric("Group")],
            order=[Ordering(Summary("final/regret"), ascending=True)],
            pinned_columns=["summary:final/regret", "summary:final/accuracy", "summary:tau"],
        ),
    )


def spec(made: "ws.Workspace") -> str:
    """A workspace as W&B stores it, as JSON."""
    return json.dumps(made._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=2)


def save(made: "ws.Workspace") -> str:
    """Create the workspace on the server.

    Returns:
        Its address.

    Raises:
        InvalidInput: without an API key, or when the server refuses.
    """
    check_account("dashboard", f"{made.entity}/{made.project}")
    import wandb

    try:
        made.save()  # type: ignore[no-untyped-call]
        return str(made.url)
    except (wandb.Error, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput("dashboard", f"{made.entity}/{made.project}", f"the server refused: {reason}") from None
