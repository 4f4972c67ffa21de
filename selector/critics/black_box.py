"""A reward as a critic: loss = −expected reward, without a gradient. What choices are measured by.

Shape legend: Q critic queries · `*` any leading dims · S slots · D features per item · C features per list.
"""

import numpy as np
import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic, SeparableCritic
from selector.rewards.base import Array, Reward, SeparableReward


class BlackBox(Critic):
    """Minus the expected reward, of real picks only: a black box need not know what a mixture of items is."""

    mixtures = False
    differentiable = False

    def __init__(self, reward: Reward) -> None:
        super().__init__()
        self.reward = reward
        self.exact = reward.exact

    @property
    def title(self) -> str:
        return self.reward.title

    @torch.no_grad()
    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        expected = finite(self.reward, self.reward.expected(*to_numpy(slots, batch)))
        return torch.from_numpy(-expected).to(slots).reshape(slots.shape[:-2])

    @torch.no_grad()
    def measure(self, slots: Tensor, batch: Batch) -> Tensor:
        if self.exact:
            return self.forward(slots, batch)
        rows, context = to_numpy(slots, batch)
        lists = slots.shape[-3]
        # Queries and seeds one by one: no number may depend on which others are measured beside them.
        parts = [slice(start, start + lists) for start in range(0, len(rows), lists)]
        measured = [self.reward.measured(rows[p], None if context is None else context[p]) for p in parts]
        losses = -finite(self.reward, np.concatenate(measured))
        return torch.from_numpy(losses).to(slots).reshape(slots.shape[:-2])


class SeparableBlackBox(SeparableCritic):
    """The same for a reward that is a sum over slots."""

    mixtures = False
    differentiable = False

    def __init__(self, reward: SeparableReward) -> None:
        super().__init__()
        self.reward = reward

    @property
    def title(self) -> str:
        return self.reward.title

    @torch.no_grad()
    def per_slot(self, slots: Tensor) -> Tensor:
        worth = finite(self.reward, self.reward.per_slot(slots.double().cpu().numpy()))
        return torch.from_numpy(-worth).to(slots)


def black_box(reward: Reward) -> BlackBox | SeparableBlackBox:
    """The critic that measures by ``reward``."""
    return SeparableBlackBox(reward) if isinstance(reward, SeparableReward) else BlackBox(reward)


def finite(reward: Reward, values: Array) -> Array:
    """``values``, if all are finite in float32, which networks are trained in.

    Raises:
        FloatingPointError: naming the reward.
    """
    with np.errstate(over="ignore"):
        broken = ~np.isfinite(np.asarray(values).astype(np.float32))
    if broken.any():
        some = f"{int(broken.sum())} of {broken.size} rewards are nan, inf or beyond float32"
        raise FloatingPointError(f"reward={reward.title}: {some}; mend the function")
    return values


def to_numpy(slots: Tensor, batch: Batch) -> tuple[Array, Array | None]:
    """Filled slots ``[Q, *, S, D]`` and context of their lists as a reward wants them: ``[M, S, D]``, ``[M, C]``."""
    rows = slots.detach().reshape(-1, *slots.shape[-2:]).double().cpu().numpy()
    if batch.context is None:
        return rows, None
    context = batch.context.expand(*slots.shape[:-2], batch.context.shape[-1])
    return rows, np.ascontiguousarray(context.reshape(len(rows), -1).double().cpu().numpy())
