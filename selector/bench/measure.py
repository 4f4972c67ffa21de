"""Measuring two ways to do a thing: in turn, in one process, so that a busy machine slows both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import median, quantiles

import torch


@dataclass(frozen=True)
class Row:
    """One line of the benchmark.

    Attributes:
        name: what was measured.
        case: at which sizes.
        ratio: ours against the alternative, below 1 is better; or what ``name`` says (an exponent, a share, GiB).
        low: the first quartile over repetitions.
        high: the third quartile.
        target: what the project wants to reach; None: no such thing.
        at_least: whether the target is a lower bound.
    """

    name: str
    case: str
    ratio: float
    low: float
    high: float
    target: float | None = None
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the target; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    @staticmethod
    def of(name: str, case: str, values: Sequence[float], target: float | None = None, at_least: bool = False) -> "Row":
        """Median and quartiles of ``values``."""
        low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return Row(name, case, middle, low, high, target, at_least)


def clock(do: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one call takes, until the device is done with it."""
    began = now(device)
    do()
    return now(device) - began


def now(device: str = "cpu") -> float:
    """Seconds since some moment, when the device has done all that it was asked for.

    With one thread on a CPU they are seconds of the processor: what other processes take away does not count, and of a
    library that takes more threads than torch may, all count.
    """
    synchronize(device)
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], device: str = "cpu", seconds: float = 2.0, least: int = 5
) -> list[float]:
    """Ratios of the time of ``ours`` to that of ``theirs``, one for every time that both were called in turn.

    Args:
        ours: what is measured.
        theirs: what it is compared with.
        device: where both run.
        seconds: how long to go on.
        least: repetitions at least.
    """
    for warm_up in (ours, theirs, ours, theirs):
        warm_up()
    ratios: list[float] = []
    end = time.perf_counter() + seconds
    while len(ratios) < least or time.perf_counter() < end:
        ratios.append(clock(ours, device) / clock(theirs, device))
    return ratios


def median_seconds(do: Callable[[], object], device: str = "cpu", repeat: int = 7) -> float:
    """The median time of one call, after a first one."""
    do()
    return median(clock(do, device) for _ in range(repeat))


def peak_memory(do: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that torch's tensors take at most while ``do`` runs, beyond what they took before."""
    do()
    if device.startswith("cuda"):
        synchronize(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        do()
        synchronize(device)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        do()
    results = profile.profiler.kineto_results
    assert results is not None
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    taken = most = 0
    for _, change in changes:
        taken += change
        most = max(most, taken)
    return most


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The least-squares p of cost ∝ size^p."""
    x, y = [log(s) for s in sizes], [log(c) for c in costs]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
