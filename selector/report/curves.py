"""Curves over samples and over time: seeds of a label aligned on one grid, their interquartile mean and its band.

Shape legend: n seeds of a label · T points of a curve · L labels.
"""

import math
from collections.abc import Sequence

import numpy as np

from selector.report.collect import Group
from selector.report.plots import Axis, Curve, LinePlot, axis_over, finite, linear_axis, log_range, thinned
from selector.report.runs import REGRET, SPREAD, SeedRun
from selector.report.statistics import Floats, Interval, bootstrap_iqm

_POINTS = 120  # of a curve: more than a figure can show, few enough for hundreds of resamples of each
_RESAMPLES = 1000


def regret_over(groups: Sequence[Group], over: str) -> LinePlot | None:
    """Regret over "samples" or "seconds"; None without any record of it."""
    curves = _curves(groups, REGRET, over)
    if not curves:
        return None
    caption = (
        "Interquartile mean of the seeds' regrets and its pointwise 95% bootstrap band. A seed that failed counts as "
        "worst from there on; a line ends where more than a quarter of the seeds have failed. A run that stopped early "
        "keeps its last regret. Dotted: random choice."
    )
    x = axis_over("samples per seed", curves)
    title = "Regret over samples"
    if over == "seconds":
        shared = sorted({seed.companions for group in groups for seed in group.seeds})
        together = " to ".join(str(n) for n in sorted({shared[0], shared[-1]}))
        caption += (
            f" Training time alone, without start-up and validation. Seeds trained side by side share a clock (here "
            f"{together} per run): times compare only between runs with as many seeds on equal machines."
        )
        x, title = axis_over("training time in seconds", curves), "Regret over wall time"
    y = Axis("regret of the argmax", True, log_range([c.y for c in curves], 1.0))
    return LinePlot(f"regret_{over}", title, caption, x, y, curves, (1.0, "random choice"))


def spread_over(groups: Sequence[Group]) -> LinePlot | None:
    """Logit spread over samples; None without any record of it."""
    curves = _curves(groups, SPREAD, "samples")
    if not curves:
        return None
    y = Axis("logit spread (std over items)", True, log_range([c.y for c in curves], None))
    return LinePlot(
        "logit_spread",
        "Logit spread over samples",
        "Standard deviation of a slot's logits over the items, interquartile mean over seeds and 95% band. A spread "
        "that falls towards zero is the collapse: all items look alike, and the argmax is decided by rounding.",
        axis_over("samples per seed", curves),
        y,
        curves,
    )


def gradient_over(groups: Sequence[Group], key: str) -> LinePlot | None:
    """A measure of the gradient over samples; None where nothing was probed."""
    curves = _curves(groups, key, "samples")
    if not curves:
        return None
    titles = {
        "grad/bias": (
            "Gradient bias",
            "bias",
            "How far the estimator's mean is from the true gradient; lower is better.",
        ),
        "grad/std": ("Gradient noise", "standard deviation", "How much single estimates scatter; lower is better."),
        "grad/cosine": (
            "Gradient direction",
            "cosine",
            "Cosine between the estimator's mean and the true gradient; 1 is the same direction.",
        ),
    }
    title, y_title, caption = titles[key]
    numbers = finite([c.y for c in curves])
    positive = key != "grad/cosine" and bool((numbers > 0).all())
    y = Axis(y_title, True, log_range([c.y for c in curves], None)) if positive else linear_axis(y_title, numbers)
    band = "Interquartile mean over seeds and 95% band."
    name = key.replace("grad/", "gradient_")
    return LinePlot(name, title, f"{caption} {band}", axis_over("samples per seed", curves), y, curves)


def _curves(groups: Sequence[Group], key: str, over: str) -> list[Curve]:
    curves = []
    for group in groups:
        seeds = [s for s in group.seeds if key in s.series and np.isfinite(_where(s, key, over)).any()]
        if seeds:
            curves.append(_curve(group.label, seeds, key, over, group))
    return curves


def _where(seed: SeedRun, key: str, over: str) -> Floats:
    """The seed's x at its records of ``key``, NaN elsewhere."""
    x = seed.samples if over == "samples" else seed.seconds
    return np.where(np.isnan(seed.series[key]), np.nan, x)


def _curve(label: str, seeds: Sequence[SeedRun], key: str, over: str, group: Group) -> Curve:
    points = [_where(seed, key, over) for seed in seeds]
    known = [p[np.isfinite(p)] for p in points]
    first, last = min(p[0] for p in known), max(p[-1] for p in known)
    if over == "samples":
        grid = thinned(np.unique(np.concatenate(known)), _POINTS)
    else:
        grid = np.unique(np.linspace(first, last, _POINTS))
    rows = [_aligned(seed, p, key, grid) for seed, p in zip(seeds, points, strict=True)]
    if key == REGRET:  # seeds without a single record count as worst from the start, like any that failed
        nothing = sum(1 for seed in group.seeds if seed.failure is not None and not len(seed.samples))
        rows += [np.full(len(grid), np.inf)] * nothing
    return Curve(label, grid, _interval(np.array(rows)))


def _aligned(seed: SeedRun, points: Floats, key: str, grid: Floats) -> Floats:
    """A seed's values on the grid: straight lines between records; what comes after its end depends on how it ended."""
    values = seed.series[key]
    there = np.isfinite(points) & np.isfinite(values)
    if key == REGRET:  # inf is a NaN that was passed through: it stays visible as the worst, no line is drawn across it
        there = np.isfinite(points) & ~np.isnan(values)
    x, y = points[there], values[there]
    beyond = math.inf if key == REGRET else math.nan
    if not len(x):
        return np.full(len(grid), beyond)
    row: Floats = np.interp(grid, x, y, left=np.nan)
    if seed.failure is not None:
        row[grid > x[-1]] = beyond
    if key == REGRET:
        row[np.isnan(row)] = y[0]  # before its first record (a continued run without its beginning)
    return row


def _interval(values: Floats) -> Interval:
    """Statistics per column ``[n, T] -> [T]`` over the seeds that are known there (not NaN)."""
    known = ~np.isnan(values)
    parts = {name: np.full(values.shape[1], np.nan) for name in ("estimate", "low", "high")}
    for pattern in np.unique(known, axis=1).T:
        columns = (known == pattern[:, None]).all(0)
        if not pattern.any():
            continue
        table = values[pattern][:, columns]
        one = Interval(table[0], table[0], table[0]) if len(table) == 1 else None
        found = one or bootstrap_iqm([table], resamples=_RESAMPLES)
        for name, part in parts.items():
            part[columns] = getattr(found, name)
    return Interval(**parts)
