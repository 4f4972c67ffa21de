"""Straight-through estimators: an exact item forward, the gradient of a relaxation backward.

Notation: l logits, v = dL/dz at the filled slots (as a gradient with respect to the one-hot choice), J(p)^T v =
p·(v − ⟨p, v⟩) the softmax Jacobian. All of them cost one critic call.
"""

from typing import Any

import torch
from torch import Tensor

from selector.errors import check_positive
from selector.noise import Noise
from selector.selection import Selection, SoftmaxAt, apply
from selector.strategies.base import Strategy, at_perturbed, checked, draw


class STIdentity(Strategy):
    """argmax forward, the identity backward: the gradient v reaches the logits untouched.

    Biased. Not invariant to a constant added to the loss gradient: adding c·Σz to L, which changes no choice, adds c
    to every logit's gradient, so the logits may drift without bound. tau is not used.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        return Selection(index=logits.argmax(-1).unsqueeze(0), weights=apply(_Allowed, logits).unsqueeze(0))


class _Allowed(torch.autograd.Function):
    """The logits; backward, what must not be chosen gets no gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        return logits.view_as(logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].masked_fill(ctx.saved_tensors[0].isneginf(), 0.0)


class STArgmax(Strategy):
    """argmax forward, softmax(l/tau) backward: J(softmax(l/tau))^T v / tau.

    Biased, and the reason why this project exists: the gradient is taken at the winner only, so it says whether the
    winner is too large or too small but never compares items; every winner is pushed down in turn and the logits
    collapse to a tie. Recommended tau: .6.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432; the question that started this project.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        at = SoftmaxAt(logits, logits.detach(), tau)
        return Selection(index=at.argmax().unsqueeze(0), softmax=at)


class STSampled(Strategy):
    """D ~ softmax(l) forward, softmax(l/tau) backward: J(softmax(l/tau))^T v(D) / tau.

    Noise in the forward pass alone. Unbiased for linear L at tau 1; on a quadratic it is the gradient of the softmax
    relaxation. Recommended tau: 1.

    References:
        Bengio, Léonard, Courville, 2013, arXiv 1308.3432.
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        return Selection(index=draw(logits, noise).unsqueeze(0), softmax=SoftmaxAt(logits, logits.detach(), tau))


class STGumbel(Strategy):
    """argmax(l + G) forward, softmax((l + G)/tau) backward, with the same G: J(y)^T v(D) / tau.

    Biased (first order; the bias falls to second order as tau goes to 0 while the variance diverges), also for linear
    L. The covariance between the drawn winner and the drawn weights is what compares items with each other, which
    :class:`STArgmax` never does. Recommended tau: annealed, 2 to .5.

    References:
        Jang, Gu, Poole, 2016, arXiv 1611.01144 (straight-through Gumbel-softmax).
    """

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        at = at_perturbed(checked(logits, tau), noise, tau)
        return Selection(index=at.argmax().unsqueeze(0), softmax=at)


class DecoupledST(Strategy):
    """D ~ softmax(l/tau_f) forward, softmax(l/tau_b) backward: J(softmax(l/tau_b))^T v(D) / tau_b.

    One temperature for how much the forward pass explores, another for how far the backward pass spreads the gradient.
    tau_f = 1 is :class:`STSampled` at tau_b; tau_f = tau_b is STSampled at tau 1 on the logits l/tau. Unbiased for
    E[L(D)] over D ~ softmax(l/tau_f) only where L is linear, tau_f = tau_b and no backward noise. One critic call.
    Recommended: tau_f 1, tau_b tuned for the problem.

    Args:
        tau_f: forward temperature, > 0; None: the schedule's tau.
        tau_b: backward temperature, > 0; None: the schedule's tau.
        backward_noise: take the backward softmax at the perturbed logits l + tau_f·G whose argmax is D, instead of
            at l: with tau_f = 1 this is :class:`STGumbel` at tau_b.

    Raises:
        InvalidInput: for a temperature that is not > 0.

    References:
        Shah, Yan, Mozer, Liu, 2024, "Improving discrete optimisation via decoupled straight-through Gumbel-softmax",
        arXiv 2410.13331.
    """

    def __init__(self, tau_f: float | None = None, tau_b: float | None = None, backward_noise: bool = False) -> None:
        super().__init__()
        check_positive(tau_f=tau_f, tau_b=tau_b)
        self.tau_f, self.tau_b, self.backward_noise = tau_f, tau_b, backward_noise

    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:  # noqa: ARG002
        logits = checked(logits, tau)
        tau_f = tau if self.tau_f is None else self.tau_f
        tau_b = tau if self.tau_b is None else self.tau_b
        # argmax(l + tau_f·G) = argmax(l/tau_f + G): a draw of softmax(l/tau_f).
        scores = noise.gumbel(logits.shape, dtype=logits.dtype).mul_(tau_f) + logits.detach()
        at = SoftmaxAt(logits, scores if self.backward_noise else logits.detach(), tau_b)
        return Selection(index=scores.argmax(-1).unsqueeze(0), softmax=at)
