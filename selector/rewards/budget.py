"""A black box of thresholds: no gradient anywhere, and a cliff right behind the best choices."""

import numpy as np

from selector.errors import InvalidInput, check_at_least, check_finite
from selector.rewards.base import Array, Reward


class Budget(Reward):
    """Σ_s v_s·[v_s >= threshold], and nothing at all once Σ_s c_s exceeds the budget.

    The first feature of an item is its value v, the second its cost c; others are not read. The slots share the budget,
    so that the best item for one depends on what the others hold.

    Args:
        budget: what all slots together may cost, >= 0.
        threshold: a value below it counts nothing.
        D: features of an item, >= 2.

    Raises:
        InvalidInput: for values out of range.
    """

    def __init__(self, budget: float = 2.0, threshold: float = 0.5, D: int = 2) -> None:
        check_at_least(0, budget=budget)
        check_finite(threshold=threshold)
        if D < 2:
            raise InvalidInput("problem.D", D, "must be >= 2 for reward=budget: an item has a value and a cost")
        self.budget, self.threshold = budget, threshold

    def expected(self, slots: Array, context: Array | None) -> Array:  # noqa: ARG002 - depends on the picks alone
        value, cost = slots[..., 0], slots[..., 1]
        worth = np.where(value >= self.threshold, value, 0.0).sum(-1)
        return np.where(cost.sum(-1) <= self.budget, worth, 0.0)
