"""The gapped straight-through estimator."""

from typing import Literal

import torch
from torch import Tensor

from selector.errors import InvalidInput
from selector.noise import Noise
from selector.selection import Selection, SoftmaxAt
from selector.strategies.base import Strategy, checked, draw, one_hot


class GST(Strategy):
    """D ~ softmax(l) forward, J(softmax(l'/tau))^T v(D) / tau backward, l' logits moved so that D wins by a gap.

    l' lifts the drawn item's logit to the maximum of l and pushes every other logit to at most that maximum minus
    ``gap``: the consistency of :class:`~selector.strategies.straight_through.STGumbel` (the softmax's argmax is D),
    without its noise. The moves are constants for the gradient. Biased, also for linear L. One critic call.
    Recommended tau: 1.

    Args:
        gap: >= 0, or "p": −log(1 − pi_D)/pi_D, the paper's guess of the gap that Gumbel noise makes.

    Raises:
        InvalidInput: for another gap.

    References:
        Fan, Chi, Rudnicky, Ramadge, 2022, "Training discrete deep generative models via gapped straight-through
        estimator", arXiv 2206.07235.
    """

    def __init__(self, gap: float | Literal["p"] = 1.0) -> None:
        super().__init__()
        if gap != "p" and not (isinstance(gap, int | float) and 0 <= gap < float("inf")):
            raise InvalidInput("gap", gap, 'must be a number >= 0, or "p"')
        self.gap = gap

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index = draw(logits, noise)
        at = SoftmaxAt(logits, self.moved(logits.detach(), index), tau)
        return Selection(index=index.unsqueeze(0), softmax=at)

    def moved(self, logits: Tensor, index: Tensor) -> Tensor:
        """The logits l' of the backward pass: ``[*, S, N]``, with the drawn items ``index [*, S]`` on top."""
        top = logits.amax(-1, keepdim=True)
        gap: float | Tensor
        if self.gap == "p":
            p = logits.softmax(-1).gather(-1, index.unsqueeze(-1))
            # At p = 0 (underflow) the limit is 1; at p = 1 the gap is infinite, and no gradient is right.
            gap = torch.where(p > 0, -torch.log1p(-p) / p, 1.0)
        else:
            gap = self.gap
        return torch.where(one_hot(index, logits.shape[-1]), top, torch.minimum(logits, top - gap))
