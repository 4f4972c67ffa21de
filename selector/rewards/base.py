"""The contract of a reward: numpy arrays in, one number per filled list out, higher is better.

Shape legend: M filled lists · S slots · D features per item · C features per list · `*` any leading dims. The loss of a
choice is minus its expected reward.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Reward(ABC):
    """A black box that judges filled slots.

    Attributes:
        exact: whether :meth:`expected` is the truth; else it is an estimate, and no oracle found with it is exact.
    """

    exact: bool = True

    @property
    def title(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @abstractmethod
    def expected(self, slots: Array, context: Array | None) -> Array:
        """The reward without noise, which choices are measured by; no critic learns from it.

        Args:
            slots: ``[M, S, D]`` float64.
            context: ``[M, C]`` float64, or None.

        Returns:
            ``[M]``.
        """

    def measured(self, slots: Array, context: Array | None) -> Array:
        """What is reported of choices; shapes as :meth:`expected`. Of an estimate: one with other noise."""
        return self.expected(slots, context)

    def observe(self, slots: Array, context: Array | None, generator: np.random.Generator) -> Array:  # noqa: ARG002 - noisy ones draw from it
        """The reward as it is seen: with the noise of ``generator``, if it has any. Shapes as :meth:`expected`."""
        return self.expected(slots, context)


class SeparableReward(Reward):
    """A reward that is a sum over slots, so that the best choice is known slot by slot."""

    @abstractmethod
    def per_slot(self, slots: Array) -> Array:
        """The reward of each slot without noise: ``[*, S, D] -> [*, S]``."""

    def expected(self, slots: Array, context: Array | None) -> Array:  # noqa: ARG002 - depends on the picks alone
        total: Array = self.per_slot(slots).sum(-1)
        return total
