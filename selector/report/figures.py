"""Every plot of a comparison as a matplotlib figure, for papers: PNG and PDF.

Figure objects of their own, not pyplot: no global state, no window, safe beside a user's own plots.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

from selector.files import write_atomically
from selector.report.palette import DIVERGING, Style, family
from selector.report.plots import (
    Axis,
    LinePlot,
    MatrixPlot,
    Plot,
    StripPlot,
    TauPlot,
    bracketed,
    drawn,
    log_ticks,
    offsets_of,
    probability,
)

_LEGEND_WIDTH = 92  # characters that fit beside each other under a figure


def draw(plot: Plot, subtitle: str, styles: Mapping[str, Style]) -> Figure:
    """The figure of one plot.

    Args:
        plot: what to draw.
        subtitle: the problem that it is about.
        styles: label -> how it is drawn.
    """
    if isinstance(plot, LinePlot):
        return _lines(plot, subtitle, styles)
    if isinstance(plot, StripPlot):
        return _strip(plot, subtitle, styles)
    if isinstance(plot, MatrixPlot):
        return _matrix(plot, subtitle)
    return _tau(plot, subtitle, styles)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG or PDF, by the ending of ``path``."""
    # 42 embeds fonts as text that journals accept; without a date the same numbers give the same file.
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    with rc_context({"pdf.fonttype": 42}), write_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)


def _figure(width: float, height: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.suptitle(f"{title}\n{subtitle}", fontsize=11)
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(4, len(labels), _LEGEND_WIDTH // (max(map(len, labels)) + 8)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _scale(axes: Axes, which: str, axis: Axis) -> None:
    one = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(axis.title)
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        one.set_major_locator(FixedLocator(log_ticks(*axis.range)))
        one.set_minor_locator(NullLocator())
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*axis.range)


def _lines(plot: LinePlot, subtitle: str, styles: Mapping[str, Style]) -> Figure:
    rows = -(-len(plot.curves) // max(1, _LEGEND_WIDTH // (max(len(c.label) for c in plot.curves) + 8)))
    figure, axes = _figure(7.2, 4.2 + 0.2 * min(rows, len(plot.curves)), plot.title, subtitle)
    for curve in plot.curves:
        style = styles[curve.label]
        middle = np.where(np.isfinite(curve.y.estimate), drawn(curve.y.estimate, plot.y), np.nan)
        known = ~np.isnan(curve.y.low)
        axes.fill_between(
            curve.x,
            drawn(curve.y.low, plot.y),
            drawn(curve.y.high, plot.y),
            where=known.tolist(),
            color=style.color,
            alpha=0.16,
            lw=0,
            step="post" if plot.steps else None,
        )
        (line,) = axes.plot(curve.x, middle, color=style.color, ls=style.dash[1], lw=1.8, label=curve.label)
        if plot.steps:
            line.set_drawstyle("steps-post")
        else:
            # Eight marks: enough to tell lines apart without their colours.
            line.set(marker=style.marker[1], markersize=4.5, markevery=max(1, len(curve.x) // 8))
    if plot.reference is not None:
        value, name = plot.reference
        axes.axhline(value, color="0.6", lw=1, ls=":", label=name)
    axes.grid(alpha=0.3, lw=0.5)
    _scale(axes, "x", plot.x)
    _scale(axes, "y", plot.y)
    if not plot.x.log:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _legend(figure, axes)
    return figure


def _strip(plot: StripPlot, subtitle: str, styles: Mapping[str, Style]) -> Figure:
    figure, axes = _figure(7.2, 1.5 + 0.42 * len(plot.standings), plot.title, subtitle)
    low, high = plot.x.range
    edge = high * (high / low) ** 0.04  # where crosses stand
    for row, standing in enumerate(plot.standings):
        style = styles[standing.label]
        inside = np.isfinite(standing.finals)
        offsets = row + offsets_of(len(standing.finals))
        axes.scatter(drawn(standing.finals[inside], plot.x), offsets[inside], s=16, color=style.color, alpha=0.55, lw=0)
        failed = offsets[~inside]
        axes.scatter(np.full(len(failed), edge), failed, s=22, marker="x", color="#b00020", lw=1.2, clip_on=False)
        if np.isfinite(standing.regret.estimate):
            ends = drawn(np.array([standing.regret.low, standing.regret.high]), plot.x)
            axes.plot(ends, [row, row], color=style.color, lw=2.4, solid_capstyle="butt")
            middle = drawn(standing.regret.estimate, plot.x)
            axes.plot([middle], [row], marker=style.marker[1], ms=8, mfc=style.color, mec="white", mew=1)
    axes.axvline(1.0, color="0.6", lw=1, ls=":")
    names = [f"{s.label} ({len(s.seeds)} seeds{_failed(len(s.failures))})" for s in plot.standings]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.grid(axis="x", alpha=0.3, lw=0.5)
    _scale(axes, "x", plot.x)
    if any(standing.failures for standing in plot.standings):
        axes.set_xlim(low, edge * (edge / high))
    axes.set_ylim(len(names) - 0.5, -0.5)
    return figure


def _failed(count: int) -> str:
    return f", {count} failed" if count else ""


def _matrix(plot: MatrixPlot, subtitle: str) -> Figure:
    L = len(plot.labels)
    side = 0.72 * L
    longest = max(map(len, plot.labels))
    figure, axes = _figure(max(5.0, 1.6 + side + 0.075 * longest), 1.6 + 0.8 * side, plot.title, subtitle)
    table = np.array([[np.nan if c is None else float(c.estimate) for c in row] for row in plot.cells])
    axes.imshow(table, cmap=LinearSegmentedColormap.from_list("beats", DIVERGING), vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(plot.cells):
        for j, cell in enumerate(row):
            if cell is None:
                continue
            text = f"{probability(float(cell.estimate))}\n{bracketed(cell)}"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5)
    axes.set_xticks(range(L), [str(i + 1) for i in range(L)])
    axes.set_yticks(range(L), [f"{label}  {i + 1}" for i, label in enumerate(plot.labels)], fontsize=9)
    axes.set_xlabel("column, numbered as the rows")
    axes.tick_params(length=0)
    return figure


def _tau(plot: TauPlot, subtitle: str, styles: Mapping[str, Style]) -> Figure:
    figure, axes = _figure(7.2, 4.4, plot.title, subtitle)
    for i, (name, points) in enumerate(plot.families):
        style = family(i, styles[points[0].label])
        steady = [p for p in points if p.constant]
        for kind, members in (("constant", steady), ("schedule", [p for p in points if not p.constant])):
            known = [p for p in members if np.isfinite(p.regret.estimate)]
            if not known:
                continue
            middle = drawn(np.array([float(p.regret.estimate) for p in known]), plot.y)
            ends = [drawn(np.array([float(getattr(p.regret, e)) for p in known]), plot.y) for e in ("low", "high")]
            axes.errorbar(
                [p.tau for p in known],
                middle,
                yerr=np.abs(np.stack(ends) - middle),
                color=style.color,
                ls=style.dash[1] if kind == "constant" else "none",
                marker=style.marker[1] if kind == "constant" else "D",
                mfc=style.color if kind == "constant" else "white",
                ms=6,
                lw=1.6,
                capsize=3,
                label=f"{name}, {kind} tau",
            )
    axes.axhline(1.0, color="0.6", lw=1, ls=":", label="random choice")
    axes.grid(alpha=0.3, lw=0.5)
    _scale(axes, "x", plot.x)
    _scale(axes, "y", plot.y)
    _legend(figure, axes)
    return figure
