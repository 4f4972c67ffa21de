"""From the seeds of every label to what the figures, the page and the table show: all statistics are made here, once.

Shape legend: n seeds of a label · T points of a curve · L labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from selector.report.collect import GRADIENT, REGRET, SPREAD, Collection, Group, Section, SeedRun
from selector.report.statistics import Floats, Interval, bootstrap_iqm, iqm, performance_profile, probability_better

FEW_SEEDS = 5
REGRET_FLOOR = 1e-5  # where a regret of zero, or below a best-known oracle, is drawn on a log axis
_POINTS = 120  # of a curve: more than a figure can show, few enough for hundreds of resamples of each
_CURVE_RESAMPLES = 1000


@dataclass(frozen=True)
class Curve:
    """A label's line with its band; ``inf`` in it means that too many seeds had failed there, NaN: not measured."""

    label: str
    x: Floats
    y: Interval


@dataclass(frozen=True)
class Axis:
    """Title, whether it is logarithmic, and (low, high) of what is shown."""

    title: str
    log: bool
    range: tuple[float, float]


@dataclass(frozen=True)
class LinePlot:
    """Curves over samples, seconds or thresholds.

    Attributes:
        name: the figure's file name without ending.
        title: what it shows.
        caption: how to read it.
        reference: a horizontal line and its name, such as random choice at 1.
        steps: whether a curve keeps its value up to the next point instead of going there straight.
    """

    name: str
    title: str
    caption: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    reference: tuple[float, str] | None = None
    steps: bool = False


@dataclass(frozen=True)
class Standing:
    """A label's place in the ranking.

    Attributes:
        rank: 1 is the best.
        finals: final regret per seed, ``inf`` for those that failed, in the order of ``seeds``.
        regret: interquartile mean of ``finals`` and its 95% interval.
        better: probability that a seed of this label beats one of the next label in the ranking; None for the last.
        failures: (seed, reason) of those that failed.
        spread: interquartile mean of the final logit spread of the seeds that have one; NaN without.
        seconds: mean training time of a run in which the seeds were trained; NaN if unknown.
    """

    rank: int
    label: str
    strategy: str
    seeds: Sequence[int]
    finals: Floats
    regret: Interval
    better: Interval | None
    failures: Sequence[tuple[int, str]]
    spread: float
    seconds: float


@dataclass(frozen=True)
class StripPlot:
    """Final regret of every seed, and the interval of their interquartile mean; one row per label, best first."""

    name: str
    title: str
    caption: str
    x: Axis
    standings: Sequence[Standing]


@dataclass(frozen=True)
class MatrixPlot:
    """Probability that the row's label beats the column's, ``cells[row][column]``; None on the diagonal."""

    name: str
    title: str
    caption: str
    labels: Sequence[str]
    cells: Sequence[Sequence[Interval | None]]


@dataclass(frozen=True)
class TauPoint:
    """One label in the picture of sensitivity to tau."""

    label: str
    schedule: str
    tau: float
    constant: bool
    regret: Interval


@dataclass(frozen=True)
class TauPlot:
    """Final regret over tau: (family, its points by ascending tau)."""

    name: str
    title: str
    caption: str
    x: Axis
    y: Axis
    families: Sequence[tuple[str, Sequence[TauPoint]]]


Plot = LinePlot | StripPlot | MatrixPlot | TauPlot


@dataclass(frozen=True)
class Comparison:
    """One problem (or all of them together), compared.

    Attributes:
        title: the problem.
        facts: oracle, budgets and seeds, in words.
        warnings: what a reader must know before believing a figure.
        standings: best first.
        sentences: the ranking in words.
        plots: the figures that have data.
    """

    title: str
    facts: Sequence[str]
    warnings: Sequence[str]
    standings: Sequence[Standing]
    sentences: Sequence[str]
    plots: Sequence[Plot]


def compare(collection: Collection) -> list[Comparison]:
    """One comparison per problem; with several problems, first one over those labels that all of them have."""
    parts = [_compare_section(section) for section in collection.sections]
    if len(parts) > 1:
        common = _across(collection.sections)
        parts = [*([common] if common is not None else []), *parts]
    return parts


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Tick values of a logarithmic axis, at most ``most``: decades, or 1-2-5 steps, or if too short four in between."""
    span = math.log10(high / low)
    steps = (1.0,) if span >= 2 else (1.0, 2.0, 5.0)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [s for s in (float(f"{step}e{e}") for e in exponents for step in steps) if low <= s <= high]
    if len(every) < 3:
        between = np.geomspace(low, high, 6)[1:-1]
        return sorted({float(f"{tick:.2g}" if high > 1.5 * low else f"{tick:.4g}") for tick in between})
    return every[:: math.ceil(len(every) / most)]


def probability(value: float) -> str:
    """A probability with two digits and no leading zero: ".93"."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else text


def bracketed(interval: Interval) -> str:
    """The ends of a probability's interval: "[.81, .99]"."""
    return f"[{probability(float(interval.low))}, {probability(float(interval.high))}]"


def number(value: float) -> str:
    """A number with three significant digits; "failed" where too many seeds failed for one, "-" if not known."""
    return "failed" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.3g}"


def known(standing: Standing) -> bool:
    """Whether anything finite can be said about a label's regret."""
    return math.isfinite(float(standing.regret.low))


# ---- one problem ---------------------------------------------------------------------------------------------------


def _compare_section(section: Section) -> Comparison:
    strata = {group.label: [np.array([seed.final for seed in group.seeds])] for group in section.groups}
    standings, matrix = _rank(section.groups, strata)
    rank = {standing.label: standing.rank for standing in standings}
    groups = sorted(section.groups, key=lambda group: rank[group.label])
    seeds = [seed for group in groups for seed in group.seeds]
    plots: list[Plot | None] = [
        _regret_over(groups, "samples"),
        _regret_over(groups, "seconds"),
        _strip(standings),
        _profile(standings, strata),
        matrix,
        _spread(groups),
        *(_gradient(groups, key) for key in GRADIENT),
        _sensitivity(groups, standings),
    ]
    budgets = sorted({seed.planned for seed in seeds})
    facts = [
        _oracle(section.oracles),
        "budget " + " or ".join(f"{budget:,}" for budget in budgets) + " samples per seed",
        f"{len(groups)} {'labels' if len(groups) > 1 else 'label'}, {len(seeds)} seeds",
    ]
    warnings = [*_few(standings), *_failed(standings), *section.notes]
    return Comparison(
        section.title,
        facts,
        warnings,
        standings,
        _sentences(standings),
        [plot for plot in plots if plot is not None],
    )


def _oracle(kinds: Sequence[str]) -> str:
    words = {
        "separable": "exact oracle (slot by slot)",
        "enumerated": "exact oracle (all choices tried)",
        "best-known": "best-known oracle: the true regret may be higher",
    }
    return "; ".join(words.get(kind, kind) for kind in kinds) if kinds else "kind of oracle unknown (no run ended)"


def _few(standings: Sequence[Standing]) -> list[str]:
    few = [f"{s.label} ({len(s.seeds)})" for s in standings if len(s.seeds) < FEW_SEEDS]
    if not few:
        return []
    return [f"Fewer than five seeds: {', '.join(few)}. Bands and probabilities say little; train more seeds."]


def _failed(standings: Sequence[Standing]) -> list[str]:
    lines = []
    for s in standings:
        reasons: dict[str, list[int]] = {}
        for seed, reason in s.failures:
            reasons.setdefault(reason, []).append(seed)
        for reason, seeds in reasons.items():
            numbers = ", ".join(map(str, seeds))
            lines.append(f"{s.label}, seed{'s' if len(seeds) > 1 else ''} {numbers}: {reason}; counted as worst.")
    return lines


def _rank(groups: Sequence[Group], strata: Mapping[str, Sequence[Floats]]) -> tuple[list[Standing], MatrixPlot | None]:
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


def _sentences(standings: Sequence[Standing], problems: int = 1) -> list[str]:
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


# ---- curves --------------------------------------------------------------------------------------------------------


def _regret_over(groups: Sequence[Group], over: str) -> LinePlot | None:
    curves = _curves(groups, REGRET, over)
    if not curves:
        return None
    caption = (
        "Interquartile mean of the seeds' regrets and its pointwise 95% bootstrap band. A seed that failed counts as "
        "worst from there on; a line ends where more than a quarter of the seeds have failed. A run that stopped early "
        "keeps its last regret. Dotted: random choice."
    )
    x = _axis("samples per seed", curves)
    title = "Regret over samples"
    if over == "seconds":
        shared = sorted({seed.companions for group in groups for seed in group.seeds})
        together = " to ".join(str(n) for n in sorted({shared[0], shared[-1]}))
        caption += (
            f" Training time alone, without start-up and validation. Seeds trained side by side share a clock (here "
            f"{together} per run): times compare only between runs with as many seeds on equal machines."
        )
        x, title = _axis("training time in seconds", curves), "Regret over wall time"
    y = Axis("regret of the argmax", True, _log_range([c.y for c in curves], 1.0))
    return LinePlot(f"regret_{over}", title, caption, x, y, curves, (1.0, "random choice"))


def _spread(groups: Sequence[Group]) -> LinePlot | None:
    curves = _curves(groups, SPREAD, "samples")
    if not curves:
        return None
    y = Axis("logit spread (std over items)", True, _log_range([c.y for c in curves], None))
    return LinePlot(
        "logit_spread",
        "Logit spread over samples",
        "Standard deviation of a slot's logits over the items, interquartile mean over seeds and 95% band. A spread "
        "that falls towards zero is the collapse: all items look alike, and the argmax is decided by rounding.",
        _axis("samples per seed", curves),
        y,
        curves,
    )


def _gradient(groups: Sequence[Group], key: str) -> LinePlot | None:
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
    numbers = _finite([c.y for c in curves])
    positive = key != "grad/cosine" and bool((numbers > 0).all())
    y = Axis(y_title, True, _log_range([c.y for c in curves], None)) if positive else _linear(y_title, numbers)
    band = "Interquartile mean over seeds and 95% band."
    name = key.replace("grad/", "gradient_")
    return LinePlot(name, title, f"{caption} {band}", _axis("samples per seed", curves), y, curves)


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
        grid = _thinned(np.unique(np.concatenate(known)), _POINTS)
    else:
        grid = np.unique(np.linspace(first, last, _POINTS))
    rows = [_aligned(seed, p, key, grid) for seed, p in zip(seeds, points, strict=True)]
    if key == REGRET:  # seeds without a single record count as worst from the start, like any that failed
        nothing = sum(1 for seed in group.seeds if seed.failure is not None and not len(seed.samples))
        rows += [np.full(len(grid), np.inf)] * nothing
    return Curve(label, grid, _interval(np.array(rows)))


def _thinned(points: Floats, most: int) -> Floats:
    """At most ``most`` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return points
    kept: Floats = points[np.linspace(0, len(points) - 1, most).round().astype(int)]
    return kept


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
        found = one or bootstrap_iqm([table], resamples=_CURVE_RESAMPLES)
        for name, part in parts.items():
            part[columns] = getattr(found, name)
    return Interval(**parts)


# ---- the other figures ---------------------------------------------------------------------------------------------


def _strip(standings: Sequence[Standing]) -> StripPlot:
    finals = np.concatenate([s.finals for s in standings])
    low, high = _log_range([Interval(finals, finals, finals)], 1.0)
    return StripPlot(
        "final_regret",
        "Final regret",
        "Every dot is a seed; the bar is the 95% bootstrap interval of the interquartile mean (its mark). Seeds that "
        "failed are crosses at the right edge. 0 is the oracle, 1 is random choice.",
        Axis("final regret", True, (low, high)),
        standings,
    )


def _profile(standings: Sequence[Standing], strata: Mapping[str, Sequence[Floats]]) -> LinePlot | None:
    finals = np.concatenate([s.finals for s in standings])
    if not np.isfinite(finals).any():
        return None
    low, high = _log_range([Interval(finals, finals, finals)], 1.0)
    reached = _thinned(np.unique(np.clip(finals[np.isfinite(finals)], low, high)), 4 * _POINTS)
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


def _sensitivity(groups: Sequence[Group], standings: Sequence[Standing]) -> TauPlot | None:
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
        Axis("final regret", True, _log_range([point.regret for point in points], 1.0)),
        found,
    )


def _across(sections: Sequence[Section]) -> Comparison | None:
    """All problems together, over the labels that each of them has; seeds are resampled within each problem."""
    counts = [{group.label: len(group.seeds) for group in section.groups} for section in sections]
    # A label with more seeds on one problem than on another would be judged mostly on the one: pooled means and pooled
    # probabilities could then contradict each other (Simpson's paradox).
    common = {label for label, n in counts[0].items() if all(count.get(label) == n for count in counts)}
    if len(common) < 2:
        return None
    groups = []
    strata: dict[str, list[Floats]] = {}
    for first in (group for group in sections[0].groups if group.label in common):
        same = [group for section in sections for group in section.groups if group.label == first.label]
        seeds = [seed for group in same for seed in group.seeds]
        groups.append(Group(first.label, first.strategy, first.family, None, seeds))
        strata[first.label] = [np.array([seed.final for seed in group.seeds]) for group in same]
    standings, matrix = _rank(groups, strata)
    left = sorted({group.label for section in sections for group in section.groups} - common)
    warnings = (
        [f"Without the same number of seeds on every problem, so not compared: {', '.join(left)}."] if left else []
    )
    few = sorted(label for label in common if counts[0][label] < FEW_SEEDS)
    if few:
        warnings.append(f"Fewer than five seeds on each problem: {', '.join(few)}. Intervals say little.")
    warnings += [f"{section.title}: {note}" for section in sections for note in section.notes]
    failed = sorted({group.label for group in groups for seed in group.seeds if seed.failure is not None})
    if failed:
        warnings.append(f"With failed seeds, counted as worst (see each problem): {', '.join(failed)}.")
    plots: list[Plot | None] = [_strip(standings), _profile(standings, strata), matrix]
    facts = [f"{len(sections)} problems, regret of each on its own scale", "seeds resampled within each problem"]
    found = [plot for plot in plots if plot is not None]
    sentences = _sentences(standings, len(sections))
    return Comparison("All problems together", facts, warnings, standings, sentences, found)


# ---- axes ----------------------------------------------------------------------------------------------------------


def _finite(intervals: Sequence[Interval]) -> Floats:
    every = np.concatenate([np.ravel(a) for i in intervals for a in (i.estimate, i.low, i.high)])
    finite: Floats = every[np.isfinite(every)]
    return finite


def _log_range(intervals: Sequence[Interval], include: float | None) -> tuple[float, float]:
    numbers = _finite(intervals)
    numbers = np.append(numbers[numbers > REGRET_FLOOR], [] if include is None else include)
    if not len(numbers):
        return REGRET_FLOOR, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    if (_finite(intervals) <= REGRET_FLOOR).any() and include is not None:
        low = REGRET_FLOOR
    return low / 1.25, high * 1.25


def _linear(title: str, numbers: Floats) -> Axis:
    low, high = float(numbers.min()), float(numbers.max())
    room = 0.05 * (high - low) or 0.05
    return Axis(title, False, (low - room, high + room))


def _axis(title: str, curves: Sequence[Curve]) -> Axis:
    low, high = min(c.x[0] for c in curves), max(c.x[-1] for c in curves)
    return Axis(title, False, (float(low), float(high) if high > low else float(low) + 1.0))


def drawn(values: Floats, axis: Axis) -> Floats:
    """The numbers as they are drawn: inside the axis, so that an unbounded band ends at its edge."""
    low, high = axis.range
    inside: Floats = np.asarray(np.clip(values, low, high))
    return inside


def offsets_of(n: int) -> Floats:
    """How far from its row each of ``n`` seeds is drawn: ``[n]`` within ±.24, neighbours apart."""
    steps = (np.arange(n, dtype=np.float64) * 0.618034) % 1.0  # golden-ratio steps spread any number of dots evenly
    offsets: Floats = 0.48 * (steps - 0.5) if n > 1 else np.zeros(n)
    return offsets
