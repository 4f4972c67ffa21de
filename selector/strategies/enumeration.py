"""Estimators that try items instead of drawing them.

Shape legend: Q critic queries · `*` any leading dims · S slots · N items.
"""

from typing import ClassVar

import torch
from torch import Tensor

from selector.errors import InvalidInput, check_at_least
from selector.noise import Noise
from selector.selection import Selection
from selector.strategies.base import Strategy, attach, checked, draw


class LocalExpectation(Strategy):
    """One draw z ~ softmax(l), and every item in each slot in turn: gradient per slot J(pi_s)^T [L(z_−s, i)]_i.

    The slot's own expectation is exact, the other slots' is a single draw: unbiased for any L, differentiable or not,
    with zero variance where L is a sum over slots. 1 + S·N critic calls. Does not use tau.

    References:
        Titsias, Lázaro-Gredilla, 2015, "Local expectation gradients for black box variational inference".
    """

    needs_gradient: ClassVar[bool] = False

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        return one_slot_changed(draw(logits, noise), logits)

    def queries(self, S: int, N: int) -> int:
        return 1 + S * N

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        drawn, tried = losses[0].detach(), losses[1:].detach()
        # Subtracting the draw's loss changes no gradient, for the probabilities of a slot sum to 1, but rounds less.
        return attach(drawn, (selection.log_prob[1:].exp() * (tried - drawn)).sum(0))


class Exact(Strategy):
    """All N^S selections: gradient ∇ Σ_z p(z)·L(z), the very thing that the other strategies estimate.

    Unbiased, without variance, for any L. Its value is the expected loss Σ_z p(z)·L(z) itself, for nothing is drawn.
    N^S critic calls: for small problems, and as the oracle of tests. A separable critic needs far fewer: with z one
    selection, E[L] = L(z) + Σ_s Σ_i pi_s(i)·(L(z_−s, i) − L(z)), which are 1 + S·N calls. Does not use tau.

    Args:
        N: items in a list; None: seen at the first call.
        S: slots; None: seen at the first call.
        separable: whether L is a sum over slots of a loss of each slot alone.
        max_selections: the largest N^S that is enumerated for a critic that is not separable.

    Raises:
        InvalidInput: when N^S is larger, here or at the first call.
    """

    needs_gradient: ClassVar[bool] = False

    def __init__(
        self, N: int | None = None, S: int | None = None, separable: bool = False, max_selections: int = 4096
    ) -> None:
        super().__init__()
        check_at_least(1, max_selections=max_selections)
        self.separable, self.max_selections = separable, max_selections
        if N is not None and S is not None:
            self._check(N, S)

    def _check(self, N: int, S: int) -> None:
        if not self.separable and self.max_selections < N**S:
            raise InvalidInput(
                "max_selections", self.max_selections, f"{N} items in {S} slots make N^S = {N**S:,} selections"
            )

    def queries(self, S: int, N: int) -> int:
        return 1 + S * N if self.separable else N**S

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        lead, (S, N) = logits.shape[:-2], logits.shape[-2:]
        self._check(N, S)
        if self.separable:
            return one_slot_changed(logits.argmax(-1), logits)
        every = torch.cartesian_prod(*[torch.arange(N, device=logits.device)] * S).view(-1, *[1] * len(lead), S)
        every = every.expand(-1, *lead, S)
        # Outer sums over the slots, in the order of `every`; gathering N^S times would cost S·N times the memory.
        log_prob = logits.new_zeros(1, *lead)
        for log_pi in logits.log_softmax(-1).movedim((-2, -1), (0, 1)):  # [N, *] of every slot
            log_prob = (log_prob.unsqueeze(1) + log_pi).flatten(0, 1)
        return Selection(index=avoid_masked(every, logits.argmax(-1), logits), log_prob=log_prob)

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:
        assert selection.log_prob is not None
        losses = losses.detach()
        if self.separable:
            expected = losses[0] + (selection.log_prob[1:].exp() * (losses[1:] - losses[0])).sum(0)
            return attach(expected, expected)
        p = selection.log_prob.exp()
        expected = (p * losses).sum(0)
        # As a difference to the expectation, which changes no gradient: the probabilities sum to 1.
        return attach(expected, (p * (losses - expected.detach())).sum(0))


def one_slot_changed(index: Tensor, logits: Tensor) -> Selection:
    """One selection, and every other that puts some item into one of its slots.

    Args:
        index: ``[*, S]``, the selection.
        logits: ``[*, S, N]``.

    Returns:
        1 + S·N queries: ``index``, then item i in slot s with ``log_prob`` log pi_s(i). The first, which is no part of
        the gradient, has log-probability 0.
    """
    S, N = logits.shape[-2:]
    slot, item = torch.arange(S, device=index.device), torch.arange(N, device=index.device)
    trailing = [1] * (index.dim() - 1)
    replaced = slot.view(S, 1, *trailing, 1) == slot  # [S, 1, *, S]: the slot that a query changes
    tried = torch.where(replaced, item.view(N, *trailing, 1), index)  # [S, N, *, S]
    queries = torch.cat([index.unsqueeze(0), avoid_masked(tried.flatten(0, 1), index, logits)])
    log_pi = logits.log_softmax(-1).movedim((-2, -1), (0, 1)).flatten(0, 1)
    return Selection(index=queries, log_prob=torch.cat([torch.zeros_like(log_pi[:1]), log_pi]))


def avoid_masked(index: Tensor, allowed: Tensor, logits: Tensor) -> Tensor:
    """``index [Q, *, S]`` with ``allowed [*, S]`` wherever it names an item of logit −inf, which must not be judged.

    Such a query has probability 0 and so no part in the gradient.
    """
    masked = logits.isneginf().expand(*index.shape, logits.shape[-1]).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return torch.where(masked, allowed, index)
