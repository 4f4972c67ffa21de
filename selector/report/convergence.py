"""The picture of one run: regret, logit spread and tau over samples.

Shape legend: R seeds trained side by side.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from selector.files import write_atomically
from selector.history import History

COLOR = "#1f5fa8"
ACCENT = "#c2571a"


def draw_convergence(history: History, path: Path, title: str, oracle_kind: str) -> None:
    """Write a png: regret over samples (every seed thin, the median bold), beside it logit spread and tau."""
    # Figure objects of their own, not pyplot: no global state, no window, safe beside a user's own plots.
    figure = Figure(figsize=(11, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    figure.suptitle(title, fontsize=13)

    _seeds(left, history, "val/regret", COLOR, floor=1e-5)
    left.set_yscale("log")
    left.axhline(1.0, color="0.6", lw=1, ls=":")
    left.annotate(
        "random choice", (0.99, 1.0), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4"
    )
    kind = oracle_kind if oracle_kind in ("best-known", "estimated") else "exact"
    left.set(xlabel="samples per seed", ylabel=f"regret of the argmax ({kind} oracle)")
    left.grid(alpha=0.3, which="both", lw=0.5)
    left.legend(frameon=False, loc="lower left")

    _seeds(right, history, "val/logit_std", COLOR)
    right.set(xlabel="samples per seed", ylim=(0, None))
    right.set_ylabel("logit spread (std over items)", color=COLOR)
    right.grid(alpha=0.3, lw=0.5)
    tau = right.twinx()
    samples, values = history.series("tau")
    tau.plot(samples, [v[0] for v in values], color=ACCENT, lw=1.8, ls="--")
    tau.set_ylabel("tau", color=ACCENT)
    tau.set_ylim(0, None)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")


def _seeds(axes: Axes, history: History, key: str, color: str, floor: float | None = None) -> None:
    samples, values = history.series(key)
    table = np.asarray(values)  # [records, R]
    if floor is not None:  # a regret of 0 (or below a best-known oracle) has no place on a log axis
        table = np.maximum(table, floor)
    R = table.shape[1]
    if R > 1:
        axes.plot(samples, table, color=color, lw=0.7, alpha=0.35)
    label = f"median of {R} seeds" if R > 1 else "1 seed"
    axes.plot(samples, np.median(table, axis=1), color=color, lw=2.2, label=label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
