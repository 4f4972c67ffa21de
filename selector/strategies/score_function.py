"""Score-function estimators: they weigh losses by how the draw's log-probability changes, and need no critic gradient.

Notation: D the draw, L its loss, log p(D) = Σ_s log pi_s(D_s). J(pi)^T v = pi·(v − ⟨pi, v⟩).
Shape legend: Q critic queries · R seeds trained side by side · `*` any leading dims · S slots · N items.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from selector.errors import InvalidInput, check_at_least
from selector.noise import Noise
from selector.processes import mean_over_processes
from selector.selection import Selection
from selector.strategies.base import Strategy, attach, checked, draw, draw_several, per_seed


class Reinforce(Strategy):
    """One draw D ~ softmax(l): gradient (L − b)·∇log p(D) = (L − b)·(D − pi).

    b is an exponential moving average of the losses so far, one for every seed. It does not depend on the draw it is
    subtracted from, so the estimator is unbiased for any L, differentiable or not, at any step. One critic call.
    Does not use tau.

    Args:
        decay: share of b that stays at every step, in [0, 1); 0 is the last step's loss.
        seeds: the R seeds trained side by side.

    Raises:
        InvalidInput: when ``decay`` is out of range.

    References:
        Williams, 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
    """

    needs_gradient: ClassVar[bool] = False
    baseline: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.99, seeds: Sequence[int] = (0,)) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InvalidInput("decay", decay, "must be >= 0 and < 1")
        self.decay, self.seeds = decay, len(seeds)
        self.register_buffer("baseline", torch.zeros(self.seeds))
        # How much of the average is filled: 1 − decay^steps. Without it the first baselines would be close to 0.
        self.register_buffer("weight", torch.zeros(self.seeds))

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index = draw(logits, noise).unsqueeze(0)
        return Selection(index=index, log_prob=log_probability(logits, index))

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        loss = losses.squeeze(0).detach()
        b = self.baseline / self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny)
        advantage = loss - per_seed(b, loss)
        if self.training:
            mean = mean_over_processes(loss.to(self.baseline.dtype).reshape(len(self.baseline), -1).mean(1))
            self.baseline.lerp_(mean, 1 - self.decay)
            self.weight.lerp_(torch.ones_like(mean), 1 - self.decay)
        return attach(loss, advantage * selection.log_prob.squeeze(0))


class RLOO(Strategy):
    """K draws D_k ~ softmax(l): gradient 1/(K−1) Σ_k (L_k − mean L)·(D_k − pi), REINFORCE leave-one-out.

    The same as the mean over k of (L_k − the mean of the other losses)·(D_k − pi): every draw's baseline is
    independent of it, so the estimator is unbiased for any L, differentiable or not. K critic calls. Does not use tau.

    Args:
        K: draws, >= 2.

    Raises:
        InvalidInput: when ``K < 2``.

    References:
        Kool, van Hoof, Welling, 2019, "Buy 4 REINFORCE samples, get a baseline for free!".
    """

    needs_gradient: ClassVar[bool] = False

    def __init__(self, K: int = 4) -> None:
        super().__init__()
        check_at_least(2, K=K)
        self.K = K

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        index = draw_several(logits, noise, self.K)
        return Selection(index=index, log_prob=log_probability(logits, index))

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        losses = losses.detach()
        mean = losses.mean(0)
        return attach(mean, ((losses - mean) * selection.log_prob).sum(0) / (self.K - 1))


def log_probability(logits: Tensor, index: Tensor) -> Tensor:
    """Joint log-probability under softmax(l) of the items in all slots: ``[*, S, N], [Q, *, S] -> [Q, *]``."""
    # The queries of a slot beside each other: Q copies of log pi to gather from would come back in the backward pass.
    of_slots = logits.log_softmax(-1).gather(-1, index.movedim(0, -1))
    return of_slots.movedim(-1, 0).contiguous().sum(-1)
