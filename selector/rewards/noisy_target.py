"""A black box that can be seen through noise only."""

import numpy as np

from selector.errors import check_at_least, check_finite
from selector.rewards.base import Array, SeparableReward


class NoisyTarget(SeparableReward):
    """−Σ_s Σ_d (x_sd − target)² + noise·N(0, 1): the loss of ``critic=target_value``, observed with noise.

    Args:
        target: the value that every slot wants.
        noise: standard deviation of what is added to every observation, >= 0.

    Raises:
        InvalidInput: for values out of range.
    """

    def __init__(self, target: float = 5.0, noise: float = 5.0) -> None:
        check_finite(target=target)
        check_at_least(0, noise=noise)
        self.target, self.noise = target, noise

    def per_slot(self, slots: Array) -> Array:
        worth: Array = -np.square(slots - self.target).sum(-1)
        return worth

    def observe(self, slots: Array, context: Array | None, generator: np.random.Generator) -> Array:
        noise: Array = self.noise * generator.standard_normal(len(slots))
        return self.expected(slots, context) + noise
