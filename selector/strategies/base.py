"""The contract of a selection strategy (a gradient estimator): ask for selections, tell their losses.

Shape legend: Q critic queries · `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from selector.errors import InvalidInput, check_positive
from selector.noise import Noise
from selector.selection import SHORT, BackwardSoftmax, Selection, SoftmaxAt, apply, eager

_SMALLEST_TAU = 1e-30  # logits up to 1e8 divided by it still fit float32


class Strategy(nn.Module, ABC):
    """What stands between logits and selection.

    Training asks the strategy for Q selections, fills the slots, has the critic judge all of them, and tells the
    strategy the losses; it differentiates what :meth:`surrogate` returns. A strategy knows neither the critic nor how
    many seeds are trained side by side; the few that learn something keep it apart per seed, on a first dim of their
    parameters and buffers, and learn only in training mode: ``strategy.eval()`` freezes them.

    Attributes:
        needs_target: whether :meth:`select` wants the oracle's items.
        needs_gradient: whether the critic must be differentiable; else its losses alone are used.
        without_replacement: whether a selection never uses an item for two slots.
        hard: whether the filled slots are exact items (else they are mixtures).
        seeds: for how many seeds the strategy keeps a state, which is then the first leading dim of the logits (any
            leading dims fit a state for one seed); None: it keeps none.
        lr: learning rate of the strategy's own parameters; None: the network's.
    """

    needs_target: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = True
    without_replacement: ClassVar[bool] = False
    hard: ClassVar[bool] = True
    seeds: int | None = None
    lr: float | None = None

    @abstractmethod
    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:
        """Ask: choose an item for every slot.

        Args:
            logits: ``[*, S, N]``; −inf marks an item that must not be chosen.
            tau: temperature, > 0; strategies without one ignore it.
            noise: the random stream to draw from, in float32 or wider.
            target: ``[*, S]`` int64, the oracle's items; given only to strategies with ``needs_target``.

        Returns:
            A selection of Q >= 1 draws.
        """

    def queries(self, S: int, N: int) -> int:  # noqa: ARG002 - for strategies that try items
        """Q of a selection at these sizes, where it grows with them: what it needs is checked before a run."""
        return 1

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:  # noqa: ARG002 - for score-function strategies
        """Tell: turn the critic's losses into what is differentiated.

        The *value* of the result is the true loss of the draw (the mean over independent draws, where there are
        several), its *gradient* is the estimator.

        Args:
            selection: what :meth:`select` returned.
            losses: ``[Q, *]``, the critic's loss of every query that :meth:`Selection.pick` filled.

        Returns:
            ``[*]``.
        """
        return losses.squeeze(0) if len(losses) == 1 else losses.mean(0)


def checked(logits: Tensor, tau: float) -> Tensor:
    """What every :meth:`Strategy.select` starts with: a temperature that is one, and wide logits.

    Raises:
        InvalidInput: when ``tau`` is not a finite number > 0.
    """
    check_positive(tau=tau)
    if tau < _SMALLEST_TAU:
        raise InvalidInput("tau", tau, f"must be >= {_SMALLEST_TAU:g}: logits divided by less are infinite")
    return wide(logits)


def wide(logits: Tensor) -> Tensor:
    """Logits in float32 at least, for softmax(l/tau) overflows in half precision; their gradient saturates there."""
    if logits.dtype not in (torch.float16, torch.bfloat16):
        return logits
    return apply(_Widen, logits)


class _Widen(torch.autograd.Function):
    """To float32; backward, what half precision cannot hold becomes its largest number: 1/tau would make it inf."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor) -> Tensor:
        return logits.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        largest = torch.finfo(ctx.dtype).max
        return grads[0].clamp(-largest, largest).to(ctx.dtype)


def draw(logits: Tensor, noise: Noise) -> Tensor:
    """Items drawn from softmax(l): ``[*, S, N] -> [*, S]``."""
    # Gumbel-max: the argmax of l + G is a draw of softmax(l), without a cumulative sum that rounds.
    return perturbed(logits, noise).argmax(-1)


def draw_several(logits: Tensor, noise: Noise, draws: int) -> Tensor:
    """Independent draws from softmax(l): ``[*, S, N] -> [draws, *, S]``.

    By inverting the distribution function: one random number for a draw in place of N, which cost more than all else.
    """
    u = noise.uniform(logits.shape[:-1], draws=draws, dtype=torch.float64)
    # In float64 the sum rounds by less than any number of draws will notice. An item of probability 0 adds nothing to
    # it, and "right" looks for the first sum above u·total, so that no draw finds it.
    sums = (logits.detach() - logits.detach().amax(-1, keepdim=True)).double().exp_().cumsum(-1)
    index = torch.searchsorted(sums, (u.movedim(0, -1) * sums[..., -1:]).contiguous(), right=True)
    return index.clamp(max=logits.shape[-1] - 1).movedim(-1, 0)  # no sum of a seed whose logits are NaN is above


def perturbed(logits: Tensor, noise: Noise) -> Tensor:
    """l + G, a constant: ``[*, S, N]``."""
    G = noise.gumbel(logits.shape, dtype=logits.dtype)
    return G.add_(logits.detach()) if eager() else G + logits.detach()  # vmap may have several l for one G


def at_perturbed(logits: Tensor, noise: Noise, tau: float) -> BackwardSoftmax:
    """softmax((l + G)/tau), whose argmax is a draw of softmax(l)."""
    if logits.dtype == torch.float32 and eager():
        G = noise.gumbel_draw(logits.shape)
        if G is not None:  # on a GPU with Triton
            from selector.fused import SoftmaxAtDraw

            return SoftmaxAtDraw(logits, G, tau)
    return SoftmaxAt(logits, perturbed(logits, noise), tau)


def one_hot(index: Tensor, N: int) -> Tensor:
    """``[*] -> [*, N]`` bool. Comparing indices works under vmap, where ``functional.one_hot`` does not."""
    return index.unsqueeze(-1) == torch.arange(N, device=index.device)


def attach(value: Tensor, gradient: Tensor) -> Tensor:
    """``value``, with the gradient of ``gradient`` in place of its own."""
    # The brackets make the difference an exact 0: value + gradient would round where the gradient's term is large.
    return value.detach() + (gradient - gradient.detach())


def attach_gradient(value: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
    """``value [*]``, whose gradient with respect to ``logits [*, S, N]`` is the constant ``gradient [*, S, N]``."""
    return apply(_AttachGradient, value.detach(), logits, gradient.detach())


class _AttachGradient(torch.autograd.Function):
    """As value + ⟨gradient, logits⟩ − the same detached, which would be NaN where a logit is −inf."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004 - gradient only
        return value.clone()  # autograd wants another tensor than an input

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return None, grads[0][..., None, None] * gradient, None


def per_seed(values: Tensor, like: Tensor) -> Tensor:
    """Values of R seeds ``[R]``, to broadcast with ``like [R, …]``; a single seed's with any leading dims.

    Raises:
        ValueError: when the first dim of ``like`` is not R.
    """
    R = len(values)
    if R > 1 and (like.dim() == 0 or like.shape[0] != R):
        raise ValueError(f"this strategy was made for {R} seeds, which must be the first dim of {tuple(like.shape)}")
    return values.view(R, *[1] * (like.dim() - 1)) if like.dim() else values.squeeze(0)


def through_softmax(logits: Tensor, p: Tensor) -> Tensor:
    """``p``, with the softmax Jacobian taken at ``p``: backward sends J(p)^T v = p·(v − ⟨p, v⟩) to ``logits``.

    For p = softmax(l) this is the softmax itself. Estimators take the Jacobian at other points of the simplex; there
    the closed form is safe for −inf logits, where differentiating through log p is not.

    Args:
        logits: ``[*, N]``; its value is never read.
        p: ``[K…, *, N]``, points on the simplex, with any further dims in front; a constant.

    Returns:
        ``[K…, *, N]``.
    """
    return apply(_ThroughSoftmax, logits.expand(p.shape), p.detach())


class _ThroughSoftmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, p: Tensor) -> Tensor:  # noqa: ARG004 - gradient only
        return p.clone()  # autograd wants another tensor than an input

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        weighted = p * grads[0]
        return weighted - p * weighted.sum(-1, keepdim=True), None


def softmax(scores: Tensor, tau: float) -> Tensor:
    """softmax(scores/tau) over the last dim, for mixtures: ``[*, N] -> [*, N]``.

    For short rows several times faster than torch's own; for long ones without its two more passes for tau.
    """
    return apply(_Softmax, scores, tau)


class _Softmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, tau: float) -> Tensor:
        if scores.shape[-1] > SHORT:
            return (scores / tau).softmax(-1)
        p = (scores - scores.amax(-1, keepdim=True)).div_(tau).exp_()
        return p.div_(p.sum(-1, keepdim=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.tau = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        p: Tensor
        (p,) = ctx.saved_tensors
        if p.shape[-1] > SHORT:
            return torch._softmax_backward_data(grads[0], p, -1, p.dtype).div_(ctx.tau), None
        weighted = p * grads[0]
        return (weighted - p * weighted.sum(-1, keepdim=True)).div_(ctx.tau), None
