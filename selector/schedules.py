"""Schedules: a number > 0 for every optimizer step. Used for the temperature tau and for the learning rate.

Every schedule has a warm-up and a floor: for the first ``warmup`` steps it goes linearly from ``warmup_start`` to its
own first value (or holds that value, without a ``warmup_start``); afterwards it runs, and never falls below ``floor``.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from selector.errors import InvalidInput, check_at_least, check_positive


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """Base of all schedules.

    Args:
        floor: lower bound, >= 0.
        warmup: steps before the schedule proper starts, >= 0.
        warmup_start: value at step 0 of the warm-up, > 0; None holds the schedule's first value.

    Raises:
        InvalidInput: for values out of these ranges.
    """

    floor: float = 0.0
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_at_least(0, floor=self.floor, warmup=self.warmup)
        check_positive(warmup_start=self.warmup_start)

    def __call__(self, step: int) -> float:
        """The value at optimizer step ``step`` (0 is the first)."""
        if step < self.warmup and self.warmup_start is not None:
            share = step / self.warmup
            return max(self.floor, (1 - share) * self.warmup_start + share * self._value(0))
        return max(self.floor, self._value(max(0, step - self.warmup)))

    @abstractmethod
    def _value(self, step: int) -> float:
        """The value ``step`` steps after the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: > 0.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(value=self.value)
        if self.warmup and self.warmup_start is None:
            raise InvalidInput("warmup", self.warmup, "a constant schedule warms up only from a given warmup_start")

    def _value(self, step: int) -> float:  # noqa: ARG002 - the same at every step
        return self.value


@dataclass(frozen=True, kw_only=True)
class Annealed(Schedule):
    """From ``start`` to ``end``, which is reached at step ``steps`` (warm-up included) and held from there on.

    Args:
        start: first value, > 0.
        end: last value, > 0.
        steps: optimizer step at which ``end`` is reached, > warmup.
    """

    start: float = 2.0
    end: float = 0.5
    steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(start=self.start, end=self.end)
        if self.steps <= self.warmup:
            raise InvalidInput("steps", self.steps, f"must be > warmup ({self.warmup})")

    def _value(self, step: int) -> float:
        return self._between(min(1.0, step / (self.steps - self.warmup)))

    @abstractmethod
    def _between(self, share: float) -> float:
        """The value when ``share`` in [0, 1] of the way is done."""


@dataclass(frozen=True, kw_only=True)
class Linear(Annealed):
    """start + (end − start)·share."""

    def _between(self, share: float) -> float:
        return (1 - share) * self.start + share * self.end


@dataclass(frozen=True, kw_only=True)
class Exponential(Annealed):
    """start·(end/start)^share: the same factor at every step."""

    def _between(self, share: float) -> float:
        return math.exp((1 - share) * math.log(self.start) + share * math.log(self.end))


@dataclass(frozen=True, kw_only=True)
class Cosine(Annealed):
    """end + (start − end)·(1 + cos(π·share))/2: slow at both ends."""

    def _between(self, share: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, kw_only=True)
class EntropyBonus:
    """Weight of the entropy bonus: linear from ``start`` to ``end`` at step ``steps``, then ``end``. 0 is none.

    Unlike a temperature it may be 0, hence no :class:`Schedule`.

    Args:
        start: weight at step 0, in units of the loss per nat and slot, >= 0.
        end: last weight, >= 0.
        steps: optimizer step at which ``end`` is reached, >= 1.

    Raises:
        InvalidInput: for values out of these ranges.
    """

    start: float = 0.0
    end: float = 0.0
    steps: int = 1000

    def __post_init__(self) -> None:
        check_at_least(0, start=self.start, end=self.end)
        check_at_least(1, steps=self.steps)

    def __call__(self, step: int) -> float:
        """The weight at optimizer step ``step`` (0 is the first)."""
        share = min(1.0, step / self.steps)
        return (1 - share) * self.start + share * self.end

    @property
    def never(self) -> bool:
        """Whether the weight is 0 at every step."""
        return self.start == self.end == 0


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """Step-wise: ``start``, multiplied by ``factor`` after every ``every`` steps.

    Args:
        start: first value, > 0.
        factor: > 0.
        every: steps between two changes, >= 1.
    """

    start: float = 2.0
    factor: float = 0.5
    every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(start=self.start, factor=self.factor)
        check_at_least(1, every=self.every)

    def _value(self, step: int) -> float:
        # A smallest positive number instead of underflow to 0: tau must stay > 0.
        return max(self.start * self.factor ** (step // self.every), 1e-30)
