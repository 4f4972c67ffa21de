"""Selections that use an item at most once."""

from typing import ClassVar

import torch
from torch import Tensor

from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, checked, one_hot


class STGumbelSequential(Strategy):
    """:class:`STGumbel` slot after slot, each without the items that earlier slots took.

    Slot s draws argmax(l_s + G_s) among the free items and gets the gradient of softmax((l_s + G_s)/tau) over the same
    free items: D_s ~ softmax(l_s restricted to the free items), the Plackett–Luce law when all slots have equal logits.
    The gradient does not see how a pick narrows the choice of later slots; that, and the straight-through pass, make it
    biased. A mask must leave every slot an item. One critic call, S steps in sequence. Recommended tau: annealed, 2 to .5.

    References:
        Kool, van Hoof, Welling, 2019, arXiv 1903.06059 (Gumbel top-k: sampling without replacement).
    """

    without_replacement: ClassVar[bool] = True

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        scores = checked(logits, tau) + noise.gumbel(logits.shape, dtype=logits.dtype)
        S, N = scores.shape[-2:]
        if S > N:
            raise ValueError(f"{S} slots cannot get different items out of {N}")
        taken = torch.zeros(*scores.shape[:-2], N, dtype=torch.bool, device=logits.device)
        picks, weights, stuck = [], [], []
        for slot in scores.unbind(-2):
            free = slot.masked_fill(taken, float("-inf"))
            stuck.append(free.isneginf().all(-1).any())
            pick = free.argmax(-1)
            picks.append(pick)
            weights.append((free / tau).softmax(-1))
            taken = taken | one_hot(pick, N)
        if bool(torch.stack(stuck).any()):  # the one wait for the device
            raise ValueError("some slot has no item left: what is allowed to it was taken by earlier slots")
        return Selection(index=torch.stack(picks, -1).unsqueeze(0), weights=torch.stack(weights, -2).unsqueeze(0))
