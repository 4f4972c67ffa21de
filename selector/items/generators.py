"""Item lists drawn fresh for every batch, on the training device: endless data, and nothing waits for a loader."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from selector.batch import Batch
from selector.errors import InvalidInput, check_finite, check_positive
from selector.noise import Noise
from selector.scaling import Scale


class Items(ABC):
    """A source of item lists.

    Attributes:
        scale: how a network should standardise the items; None: it reads them as they are.
        fewest: items of the shortest list; None: every list has as many as were asked for.
        columns: a table's ``list_id``, ``features`` and ``context``, to read others like it; None: no table.
        checksum: of all its numbers, where they are fixed; None: they are drawn.
    """

    scale: Scale | None = None
    fewest: int | None = None
    columns: dict[str, Any] | None = None
    checksum: int | None = None

    @abstractmethod
    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        """Draw item lists.

        Args:
            shape: ``[*, N, D]``.
            noise: the random stream; the result lies on its device.

        Returns:
            Lists of float32 items ``[*, N, D]``; with a mask where a source knows which items are allowed.
        """

    def held_out(self, shape: Sequence[int], noise: Noise) -> Batch:
        """Lists to measure with, which :meth:`sample` never gives.

        Args:
            shape: ``[V, N, D]``; a source that has fewer than V lists gives all it has.
            noise: a stream of its own; a source that draws every list anew needs nothing else.
        """
        return self.sample(shape, noise)


class Uniform(Items):
    """Features uniform in [low, high).

    Raises:
        InvalidInput: when ``high <= low``.
    """

    def __init__(self, low: float = 0.0, high: float = 10.0) -> None:
        _check_range(low, high)
        self.low, self.high = low, high

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        return Batch(noise.uniform(shape).mul_(self.high - self.low).add_(self.low))


class Fixed(Items):
    """The same list every time.

    Args:
        values: the N items, each a list of D features.
        N: items that the problem wants; None: known when lists are drawn.
        D: features that the problem wants; None: known when lists are drawn.

    Raises:
        InvalidInput: when the items differ in length, a feature is not finite, or there are not N items of D features.
    """

    def __init__(self, values: Sequence[Sequence[float]], N: int | None = None, D: int | None = None) -> None:
        if not values or len({len(item) for item in values}) != 1:
            raise InvalidInput("values", values, "must be N items of D features each")
        check_finite(values=[feature for item in values for feature in item])
        self.values = torch.tensor(values, dtype=torch.float32)
        ours = tuple(self.values.shape)
        self._check(ours[0] if N is None else N, ours[1] if D is None else D)

    def _check(self, N: int, D: int) -> None:
        ours = tuple(self.values.shape)
        if ours != (N, D):
            given = self.values.tolist()
            raise InvalidInput(
                "values", given, f"are {ours[0]} items of {ours[1]} features; the problem has {N} of {D}"
            )

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        self._check(*shape[-2:])
        return Batch(self.values.to(noise.device).expand(*shape))


class Normal(Items):
    """Features normal with the given mean and standard deviation.

    Raises:
        InvalidInput: when ``std <= 0``, or ``mean`` is not finite.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        check_positive(std=std)
        check_finite(mean=mean)
        self.mean, self.std = mean, std

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        return Batch(noise.normal(shape).mul_(self.std).add_(self.mean))


class Integers(Items):
    """Features that are whole numbers low … high, both included, all equally likely.

    Raises:
        InvalidInput: when ``high <= low``.
    """

    def __init__(self, low: int = 0, high: int = 10) -> None:
        _check_range(low, high)
        self.low, self.high = low, high

    def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
        return Batch(noise.integers(self.high - self.low + 1, shape).add_(self.low).float())


def _check_range(low: float, high: float) -> None:
    if not high > low:
        raise InvalidInput("high", high, f"must be > low ({low})")
    if not float("-inf") < low < high < float("inf"):
        raise InvalidInput("low", low, "low and high must be finite")
