"""What a figure is made of, whoever draws it: Plotly in the page, matplotlib as PNG and PDF. Words for its numbers.

Shape legend: n seeds of a label · T points of a curve · L labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selector.report.statistics import Floats, Interval

REGRET_FLOOR = 1e-5  # where a regret of zero, or below a best-known oracle, is drawn on a log axis


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


def finite(intervals: Sequence[Interval]) -> Floats:
    """All finite estimates and ends of intervals, flat."""
    every = np.concatenate([np.ravel(a) for i in intervals for a in (i.estimate, i.low, i.high)])
    numbers: Floats = every[np.isfinite(every)]
    return numbers


def log_range(intervals: Sequence[Interval], include: float | None) -> tuple[float, float]:
    """Range of a log axis that holds all intervals and ``include``; what is not positive lies at ``REGRET_FLOOR``."""
    numbers = finite(intervals)
    numbers = np.append(numbers[numbers > REGRET_FLOOR], [] if include is None else include)
    if not len(numbers):
        return REGRET_FLOOR, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    if (finite(intervals) <= REGRET_FLOOR).any() and include is not None:
        low = REGRET_FLOOR
    return low / 1.25, high * 1.25


def linear_axis(title: str, numbers: Floats) -> Axis:
    """An axis that holds all numbers, with some room."""
    low, high = float(numbers.min()), float(numbers.max())
    room = 0.05 * (high - low) or 0.05
    return Axis(title, False, (low - room, high + room))


def axis_over(title: str, curves: Sequence[Curve]) -> Axis:
    """The x axis from the first to the last point of all curves."""
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


def thinned(points: Floats, most: int) -> Floats:
    """At most ``most`` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return points
    kept: Floats = points[np.linspace(0, len(points) - 1, most).round().astype(int)]
    return kept
