"""Who is better than whom: standings by final regret, in words, and the figures of final regrets.

Shape legend: n seeds of a label · T points of a curve · L labels.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from selector.report.collect import Group
from selector.report.plots import (
    Axis,
    Curve,
    LinePlot,
    MatrixPlot,
    Standing,
    StripPlot,
    TauPlot,
    TauPoint,
    bracketed,
    log_range,
    probability,
    thinned,
)
from selector.report.runs import REGRET, SPREAD
from selector.report.statistics import Floats, Interval, bootstrap_iqm, iqm, performance_profile, probability_better

FEW_SEEDS = 5
_THRESHOLDS = 480  # of a performance profile


def rank_labels(
    groups: Sequence[Group], strata: Mapping[str, Sequence[Floats]]
) -> tuple[list[Standing], MatrixPlot | None]:
    """Labels by the interquartile mean of their final regrets; ties (all failed, say) by their mean win rate."""
    regret = {group.label: bootstrap_iqm(strata[group.label]) for group in groups}
    labels = [group.label for group in groups]
    wins: dict[tuple[str, str], Interval] = {}
    for a, b in combinations(labels, 2):
        p = wins[a, b] = probability_better(strata[a], strata[b])
        wins[b, a] = Interval(1 - p.estimate, 1 - p.high, 1 - p.low)
    mean_wins = {
        a: np.mean([wins[a, b].estimate for b in labels if b != a]) if len(labels) > 1 else 0.0 for a in labels
    }
    by_label = {group.label: group for group in groups}
    order = sorted(labels, key=lambda label: (float(regret[label].estimate), -mean_wins[label], label))
    standings = []
    for i, label in enumerate(order):
        group = by_label[label]
        measured = [s for s in group.seeds if SPREAD in s.series]
        spreads = [s.series[SPREAD][~np.isnan(s.series[REGRET])][-1] for s in measured]
        spread = np.array([value for value in spreads if math.isfinite(value)])
        seconds = [np.nanmax(s.seconds) for s in group.seeds if np.isfinite(s.seconds).any()]
        standings.append(
            Standing(
                rank=i + 1,
                label=label,
                strategy=group.strategy,
                seeds=[seed.seed for seed in group.seeds],
                finals=np.array([seed.final for seed in group.seeds]),
                regret=regret[label],
                better=wins[label, order[i + 1]] if i + 1 < len(order) else None,
                failures=[(seed.seed, seed.failure) for seed in group.seeds if seed.failure is not None],
                spread=float(iqm(spread)) if len(spread) else math.nan,
                seconds=float(np.mean(seconds)) if seconds else math.nan,
            )
        )
    if len(order) < 2:
        return standings, None
    cells = [[wins.get((row, column)) for column in order] for row in order]
    return standings, MatrixPlot(
        "probability",
        "Probability that the row beats the column",
        "For one seed of each drawn at random: the share of pairs in which the row's final regret is lower, a tie "
        "counted half; below it the 95% bootstrap interval over seeds. Where the interval holds .50 there is no clear "
        "winner. [1.00, 1.00] means that every seed of one was better than every seed of the other; that many seeds "
        "cannot say more.",
        order,
        cells,
    )


def sentences_of(standings: Sequence[Standing], problems: int = 1) -> list[str]:
    """The ranking in words, each label against the next; seeds are those of each of ``problems`` problems."""
    lines = []
    for one, other in pairwise(standings):
        if one.better is None:
            continue
        p = f"{probability(float(one.better.estimate))} {bracketed(one.better)}"
        n, m = len(one.seeds) // problems, len(other.seeds) // problems
        seeds = f"{n} seeds" if n == m else f"{n} and {m} seeds"
        seeds += f" on each of {problems} problems" if problems > 1 else ""
        if min(n, m) < FEW_SEEDS:
            seeds += ": too few to rely on"
        beats = f"{one.label} and {other.label}: no clear winner"
        if float(one.better.low) > 0.5:
            beats = f"{one.label} beats {other.label} on regret"
        elif float(one.better.high) < 0.5:
            beats = f"{one.label} has the lower mean, but loses to {other.label} more often"
        lines.append(f"{beats}, P = {p}, {seeds}")
    return lines


def final_regret(standings: Sequence[Standing]) -> StripPlot:
    """Final regret of every seed, best label first."""
    finals = np.concatenate([s.finals for s in standings])
    low, high = log_range([Interval(finals, finals, finals)], 1.0)
    return StripPlot(
        "final_regret",
        "Final regret",
        "Every dot is a seed; the bar is the 95% bootstrap interval of the interquartile mean (its mark). Seeds that "
        "failed are crosses at the right edge. 0 is the oracle, 1 is random choice.",
        Axis("final regret", True, (low, high)),
        standings,
    )


def profile(standings: Sequence[Standing], strata: Mapping[str, Sequence[Floats]]) -> LinePlot | None:
    """Share of seeds at or below a regret; None where every seed failed."""
    finals = np.concatenate([s.finals for s in standings])
    if not np.isfinite(finals).any():
        return None
    low, high = log_range([Interval(finals, finals, finals)], 1.0)
    reached = thinned(np.unique(np.clip(finals[np.isfinite(finals)], low, high)), _THRESHOLDS)
    thresholds = np.concatenate([[low], reached, [high]])
    curves = [Curve(s.label, thresholds, _reached(strata[s.label], thresholds)) for s in standings]
    return LinePlot(
        "performance_profile",
        "Performance profile",
        "Share of seeds whose final regret is at or below the threshold, with its 95% bootstrap band: higher and "
        "further left is better. A seed that failed is never counted as reaching it.",
        Axis("regret threshold", True, (low, high)),
        Axis("share of seeds", False, (0.0, 1.02)),
        curves,
        steps=True,
    )


def _reached(strata: Sequence[Floats], thresholds: Floats) -> Interval:
    # What is below the axis is drawn at its edge, so it has to be counted there.
    return performance_profile([np.maximum(values, thresholds[0]) for values in strata], thresholds)


def sensitivity(groups: Sequence[Group], standings: Sequence[Standing]) -> TauPlot | None:
    """Final regret over the temperature; None unless a family of labels has several."""
    regret = {s.label: s.regret for s in standings}
    families: dict[str, list[TauPoint]] = {}
    for group in groups:
        if group.tau is not None and group.tau.last > 0:
            constant = group.tau.first == group.tau.last
            point = TauPoint(group.label, group.tau.schedule, group.tau.last, constant, regret[group.label])
            families.setdefault(group.family, []).append(point)
    found = [
        (name, sorted(points, key=lambda p: (not p.constant, p.tau)))
        for name, points in families.items()
        if len({(p.tau, p.schedule) for p in points}) > 1
    ]
    if not found:
        return None
    points = [point for _, members in found for point in members]
    taus = np.array([point.tau for point in points])
    return TauPlot(
        "sensitivity_tau",
        "Sensitivity to tau",
        "Interquartile mean of the final regret and its 95% interval over tau. Constant temperatures are joined by a "
        "line; open diamonds are schedules, drawn at the tau with which they end. Dotted: random choice.",
        Axis("tau", True, (float(taus.min()) / 1.3, float(taus.max()) * 1.3)),
        Axis("final regret", True, log_range([point.regret for point in points], 1.0)),
        found,
    )
