"""Differentiable losses over filled slots."""

from selector.critics.base import Critic, SeparableCritic
from selector.critics.diversity import Diversity
from selector.critics.least_squares import LeastSquares
from selector.critics.targets import Power, SlotTargets, SumTarget, TargetValue
from selector.critics.teacher import Teacher

__all__ = [
    "Critic",
    "Diversity",
    "LeastSquares",
    "Power",
    "SeparableCritic",
    "SlotTargets",
    "SumTarget",
    "TargetValue",
    "Teacher",
]
