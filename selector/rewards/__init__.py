"""Black boxes: what filled slots turned out to be worth, observed one by one, without a gradient."""

from selector.rewards.base import Reward, SeparableReward
from selector.rewards.budget import Budget
from selector.rewards.noisy_target import NoisyTarget

__all__ = ["Budget", "NoisyTarget", "Reward", "SeparableReward"]
