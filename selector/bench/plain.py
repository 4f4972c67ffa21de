"""The estimators as people write them by hand: one-hot products, ``value + soft − soft.detach()``, torch's samplers.

Each gets logits ``[B, S, N]``, items ``[B, N, D]``, a loss ``[*, B, S, D] -> [*, B]`` and a temperature, and returns
what is to be differentiated. They are what this package is measured against, so they use what torch offers for it.
Shape legend: B batch · S slots · N items · D features · K draws.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributions

Loss = Callable[[Tensor], Tensor]
Categorical: Any = distributions.Categorical  # torch's own has no type hints


def softmax(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    return loss((logits / tau).softmax(-1) @ items).mean()


def gumbel_softmax(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    return loss(F.gumbel_softmax(logits, tau) @ items).mean()


def st_gumbel(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    return loss(F.gumbel_softmax(logits, tau, hard=True) @ items).mean()


def _straight_through(index: Tensor, soft: Tensor) -> Tensor:
    return F.one_hot(index, soft.shape[-1]).to(soft.dtype) + soft - soft.detach()


def _sample(logits: Tensor) -> Tensor:
    index: Tensor = Categorical(logits=logits.detach(), validate_args=False).sample()
    return index


def st_identity(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:  # noqa: ARG001 - all are called alike
    return loss(_straight_through(logits.argmax(-1), logits) @ items).mean()


def st_argmax(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    return loss(_straight_through(logits.argmax(-1), (logits / tau).softmax(-1)) @ items).mean()


def st_sampled(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    return loss(_straight_through(_sample(logits), (logits / tau).softmax(-1)) @ items).mean()


def gst(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    """The code of arXiv 2206.07235 with gap 1."""
    hard = F.one_hot(_sample(logits), logits.shape[-1]).to(logits.dtype)
    raw = logits.detach()
    top = raw.max(-1, keepdim=True).values
    lift = (top - (raw * hard).sum(-1, keepdim=True)) * hard
    push = ((raw + 1.0 - top) * (1 - hard)).clamp(min=0)
    soft = ((logits + lift - push) / tau).softmax(-1)
    return loss((hard + soft - soft.detach()) @ items).mean()


def _conditional(log_p: Tensor, hard: Tensor, K: int) -> Tensor:
    """K draws of log p + G given that ``hard`` wins: ``[K, *, N]``, as in the code of arXiv 2010.04838."""
    E = torch.empty(K, *log_p.shape, dtype=log_p.dtype, device=log_p.device).exponential_()
    E_winner = (hard * E).sum(-1, keepdim=True)
    Z = log_p.exp().sum(-1, keepdim=True)
    return torch.where(hard.bool(), -E_winner.log() + Z.log(), -(E / log_p.exp() + E_winner / Z).log())


def gumbel_rao(logits: Tensor, items: Tensor, loss: Loss, tau: float, K: int = 10) -> Tensor:
    hard = F.one_hot(_sample(logits), logits.shape[-1]).to(logits.dtype)
    adjusted = logits + (_conditional(logits.detach(), hard, K) - logits.detach())
    soft = (adjusted / tau).softmax(-1).mean(0)
    return loss((hard + soft - soft.detach()) @ items).mean()


def reinmax(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    """The replacement that arXiv 2304.08612 gives in pseudo-code."""
    p = logits.softmax(-1)
    hard = F.one_hot(_sample(logits), logits.shape[-1]).to(logits.dtype)
    middle = (hard + (logits / tau).softmax(-1)) / 2
    middle = ((middle.log() - logits).detach() + logits).softmax(-1)
    both = 2 * middle - p / 2
    return loss((both - both.detach() + hard) @ items).mean()


def reinforce(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:  # noqa: ARG001 - all are called alike
    drawn = Categorical(logits=logits, validate_args=False)
    index = drawn.sample()
    losses = loss(F.one_hot(index, logits.shape[-1]).to(items.dtype) @ items).detach()
    objective: Tensor = ((losses - losses.mean()) * drawn.log_prob(index).sum(-1)).mean()
    return objective


def rloo(logits: Tensor, items: Tensor, loss: Loss, tau: float, K: int = 4) -> Tensor:  # noqa: ARG001 - all are called alike
    drawn = Categorical(logits=logits, validate_args=False)
    index = drawn.sample((K,))
    losses = loss(F.one_hot(index, logits.shape[-1]).to(items.dtype) @ items).detach()
    baseline = (losses.sum(0) - losses) / (K - 1)
    objective: Tensor = ((losses - baseline) * drawn.log_prob(index).sum(-1)).mean()
    return objective


def rebar(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    """The published algorithm (arXiv 1703.07370) with eta 1."""
    log_p = logits.log_softmax(-1)
    u, v = torch.rand_like(logits), torch.rand_like(logits)
    z = log_p - (-u.log()).log()
    hard = F.one_hot(z.argmax(-1), logits.shape[-1]).to(logits.dtype)
    top = -(-(v * hard).sum(-1, keepdim=True).log()).log()
    rest = -(-v.log() / log_p.exp() + (-top).exp()).log()
    z_given = torch.where(hard.bool(), top, rest)
    losses = loss(hard @ items).detach()
    c, c_given = loss((z / tau).softmax(-1) @ items), loss((z_given / tau).softmax(-1) @ items)
    score = (losses - c_given).detach() * (log_p * hard).sum((-1, -2))
    return (score + c - c_given).mean()


def local_expectation(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:  # noqa: ARG001 - all are called alike
    p, index, total = logits.softmax(-1), _sample(logits), torch.zeros((), device=logits.device)
    S, N = logits.shape[-2:]
    for s in range(S):
        for n in range(N):
            tried = index.clone()
            tried[..., s] = n
            losses = loss(F.one_hot(tried, N).to(items.dtype) @ items).detach()
            total = total + (p[..., s, n] * losses).mean()
    return total


def st_gumbel_sequential(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    taken, picks = torch.zeros_like(logits[..., 0, :]), []
    for s in range(logits.shape[-2]):
        pick = F.gumbel_softmax(logits[..., s, :].masked_fill(taken.detach() > 0.5, -torch.inf), tau, hard=True)
        taken = taken + pick.detach()
        picks.append(pick)
    return loss(torch.stack(picks, -2) @ items).mean()


def entmax_st(logits: Tensor, items: Tensor, loss: Loss, tau: float) -> Tensor:
    import entmax

    soft: Tensor = entmax.entmax15(logits / tau, dim=-1)
    index = Categorical(probs=soft.detach(), validate_args=False).sample()
    return loss(_straight_through(index, soft) @ items).mean()


# By the name of the strategy's yaml. Not here: `relax`, whose plain form is a training loop of its own; `exact` and
# `supervised`, which are no estimators; and names for another strategy's options.
PLAIN: dict[str, Callable[..., Any]] = {
    form.__name__: form
    for form in (
        softmax, gumbel_softmax, st_gumbel, st_identity, st_argmax, st_sampled, gst, gumbel_rao, reinmax, reinforce,
        rloo, rebar, local_expectation, st_gumbel_sequential, entmax_st,
    )
}  # fmt: skip
