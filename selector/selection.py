"""What was selected, and where the gradient goes: the op between logits and filled slots.

Shape legend: Q critic queries · `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items ·
D features per item.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Numbers that one chunk of a backward pass holds: 256 KiB of float32, so that its temporaries stay in a core's cache.
_CHUNK = 2**16
# Up to here torch's softmax kernels, made for long rows, cost several times what their arithmetic does.
SHORT = 32


class BackwardSoftmax(ABC):
    """The weights softmax(scores/tau) of one hard selection, which only the backward pass computes.

    Attributes:
        logits: ``[*, S, N]``, where the gradient goes.
        tau: temperature, > 0.
    """

    logits: Tensor
    tau: float

    @abstractmethod
    def argmax(self) -> Tensor:
        """``[*, S]`` int64, the items with the highest scores."""

    @abstractmethod
    def weights(self) -> Tensor:
        """``[*, S, N]``, as a tensor of its own: softmax(scores/tau), differentiable in the logits."""

    @abstractmethod
    def pick(self, items: Tensor, index: Tensor) -> Tensor:
        """Rows of ``items`` by ``index``, with the gradient of ``weights() @ items`` attached to the logits.

        Args:
            items: ``[*, N, D]``; receives the gradient of the plain gather.
            index: ``[*, S]`` int64.

        Returns:
            ``[*, S, D]``, exact copies of rows.
        """


@dataclass(frozen=True)
class SoftmaxAt(BackwardSoftmax):
    """The softmax at given scores.

    The backward pass goes from the rows to the logits in one step, chunk by chunk: besides its result it holds nothing
    of the size of the logits but the scores.

    Attributes:
        logits: ``[*, S, N]``, where the gradient goes: J(p)^T v / tau at p = softmax(scores/tau).
            Its value is not read.
        scores: ``[*, S, N]``, constants: the logits, perturbed or moved.
        tau: temperature, > 0.
    """

    logits: Tensor
    scores: Tensor
    tau: float

    def argmax(self) -> Tensor:
        return self.scores.argmax(-1)

    def weights(self) -> Tensor:
        # Not scores + logits − logits.detach(), which is NaN at −inf.
        moved = torch.where(self.scores.isneginf(), 0.0, self.scores - self.logits).detach()
        return ((self.logits + moved).masked_fill(self.scores.isneginf(), float("-inf")) / self.tau).softmax(-1)

    def pick(self, items: Tensor, index: Tensor) -> Tensor:
        return apply(_PickThroughSoftmax, items, index, self.logits, self.scores, self.tau)


@dataclass(frozen=True)
class Selection:
    """Q selections of one item for every slot.

    Attributes:
        index: ``[Q, *, S]`` int64, the items chosen; None when the selection is a mixture.
        weights: ``[Q, *, S, N]``, where the gradient goes (and the value itself when ``index`` is None); None when
            no gradient passes through the picks.
        log_prob: ``[Q, *]``, log-probability of what was drawn, for strategies that weigh losses with it.
        relaxed: ``[M, *, S, N]``, M mixtures that are judged after the Q selections, for control variates.
        softmax: in place of ``weights``, of a single selection (Q = 1): a softmax that is never stored.
    """

    index: Tensor | None = None
    weights: Tensor | None = None
    log_prob: Tensor | None = None
    relaxed: Tensor | None = None
    softmax: BackwardSoftmax | None = None

    def __post_init__(self) -> None:
        if self.index is None and self.weights is None:
            raise ValueError("a selection needs an index (hard picks), weights (a mixture), or both")
        if self.softmax is not None and (self.weights is not None or self.index is None or len(self.index) != 1):
            raise ValueError("softmax stands in place of the weights of one hard selection")

    def pick(self, items: Tensor) -> Tensor:
        """Fill the slots.

        With ``index`` the filled slots are rows of ``items``, bit for bit; ``weights`` then only receive the gradient
        ``dslots @ items^T`` that the one-hot product would have sent to its one-hot factor.

        Args:
            items: ``[*, N, D]``.

        Returns:
            ``[Q, *, S, D]``, or ``[Q + M, *, S, D]`` with M relaxed queries.

        Raises:
            ValueError: when the leading dims or N of ``items`` do not fit.
        """
        chosen = self.index if self.index is not None else self.weights
        assert chosen is not None
        lead = chosen.shape[1:-1] if self.index is not None else chosen.shape[1:-2]
        weights = self.weights if self.softmax is None else self.softmax.logits
        if items.shape[:-2] != lead or (weights is not None and items.shape[-2] != weights.shape[-1]):
            raise ValueError(
                f"items {tuple(items.shape)} do not fit a selection {tuple(chosen.shape)} ([Q, *, S(, N)])"
            )
        if self.index is None:
            assert self.weights is not None
            picked = _mix(self.weights, items)
        elif self.softmax is not None:
            picked = self.softmax.pick(items, self.index.squeeze(0)).unsqueeze(0)
        else:
            picked = pick_rows(items.expand(self.index.shape[0], *items.shape), self.index, self.weights)
        return picked if self.relaxed is None else torch.cat([picked, _mix(self.relaxed, items)])


def pick_rows(items: Tensor, index: Tensor, weights: Tensor | None = None) -> Tensor:
    """Rows of ``items`` by ``index``, with the gradient of ``weights @ items`` attached to ``weights``.

    Args:
        items: ``[*, N, D]``; receives the gradient of the plain gather.
        index: ``[*, S]`` int64.
        weights: ``[*, S, N]`` or None; its value is never read.

    Returns:
        ``[*, S, D]``, exact copies of rows.
    """
    return apply(_PickRows, items, index, weights)


class _PickRows(torch.autograd.Function):
    """Gather forward; backward also sends ``grad @ items^T`` to the weights. No one-hot is ever made."""

    generate_vmap_rule = True

    @staticmethod
    def forward(items: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:  # noqa: ARG004 - gradient only
        return gather(items, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG004
        items, index, weights = inputs
        ctx.save_for_backward(items, index)
        ctx.weights_dtype = None if weights is None else weights.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (grad,) = grads
        items, index = ctx.saved_tensors
        d_items = scatter(items, index, grad) if ctx.needs_input_grad[0] else None
        d_weights = None
        if ctx.needs_input_grad[2]:
            # In the weights' dtype from the start: the product of half-precision items may overflow.
            d_weights = _inner(grad.to(ctx.weights_dtype), items.to(ctx.weights_dtype))
        return d_items, None, d_weights


class _PickThroughSoftmax(torch.autograd.Function):
    """Gather forward; backward J(softmax(scores/tau))^T (grad @ items^T) / tau to the logits."""

    generate_vmap_rule = True

    @staticmethod
    def forward(items: Tensor, index: Tensor, logits: Tensor, scores: Tensor, tau: float) -> Tensor:  # noqa: ARG004
        return gather(items, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, float], output: Tensor) -> None:  # noqa: ARG004
        *tensors, ctx.tau = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        (grad,) = grads
        items, index, logits, scores = ctx.saved_tensors
        d_items = scatter(items, index, grad) if ctx.needs_input_grad[0] else None
        d_logits = None
        if ctx.needs_input_grad[2]:
            grad, items = grad.to(scores.dtype), items.to(scores.dtype)
            if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
                d_logits = through_weights(grad, items, SoftmaxAt(logits, scores, ctx.tau))
            else:
                d_logits = _through_softmax(grad, items, scores, ctx.tau)
        return d_items, None, d_logits, None, None


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """``function.apply`` without its look at the signature, which takes as long as a small pick."""
    call = super(torch.autograd.Function, function).apply if eager() else function.apply  # type: ignore[misc]
    result: Tensor = call(*arguments)
    return result


def eager() -> bool:
    """Whether tensors are plain ones: nothing is being compiled or transformed (vmap, grad)."""
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def gather(items: Tensor, index: Tensor) -> Tensor:
    """Rows of items: ``[*, N, D], [*, S] -> [*, S, D]``."""
    return items.gather(-2, index.unsqueeze(-1).expand(*index.shape, items.shape[-1]))


def scatter(items: Tensor, index: Tensor, grad: Tensor) -> Tensor:
    """The gradient of :func:`gather` with respect to ``items``."""
    rows = index.unsqueeze(-1).expand(grad.shape)
    return torch.zeros_like(items, memory_format=torch.contiguous_format).scatter_add(-2, rows, grad)


def through_weights(grad: Tensor, items: Tensor, at: BackwardSoftmax) -> Tensor:
    """The gradient of :meth:`BackwardSoftmax.pick` as an expression of the logits, to be differentiated again."""
    p = at.weights()
    weighted = p * _inner(grad, items)
    return (weighted - p * weighted.sum(-1, keepdim=True)) / at.tau


def _through_softmax(grad: Tensor, items: Tensor, scores: Tensor, tau: float) -> Tensor:
    """J(p)^T (grad @ items^T) / tau at p = softmax(scores/tau).

    ``[*, S, D], [*, N, D], [*, S, N] -> [*, S, N]``.
    """
    S, N = scores.shape[-2:]
    if N <= SHORT:
        p = (scores - scores.amax(-1, keepdim=True)).div_(tau).exp_()
        total = p.sum(-1, keepdim=True)
        v = _inner(grad, items)
        mean = (v * p).sum(-1, keepdim=True).div_(total)
        # Divided in this order: p·(v − mean) is small where 1/tau is large.
        return v.sub_(mean).mul_(p).div_(total.mul_(tau))
    out = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    g, a, z = grad.reshape(-1, S, grad.shape[-1]), items.reshape(-1, N, items.shape[-1]), scores.reshape(-1, S, N)
    d = out.view(-1, S, N)
    if scores.device.type != "cpu":
        lists, slots = max(1, len(z)), S
    else:  # whole lists, or some slots of one list
        lists, slots = max(1, _CHUNK // (S * N)), min(S, max(1, _CHUNK // N))
    for i in range(0, len(z), lists):
        for s in range(0, S, slots):
            part = (slice(i, i + lists), slice(s, s + slots))
            p = (z[part] / tau).softmax(-1)
            v = _inner(g[part], a[i : i + lists])
            torch.ops.aten._softmax_backward_data.out(v, p, -1, p.dtype, grad_input=d[part])
            d[part].div_(tau)
    return out


def _inner(grad: Tensor, items: Tensor) -> Tensor:
    """``grad @ items^T``: ``[*, S, D] × [*, N, D] -> [*, S, N]``."""
    if items.shape[-1] == 1:  # an outer product: broadcasting is several times faster than a batched matmul of depth 1
        return grad * items.transpose(-1, -2)
    if torch.is_autocast_enabled(grad.device.type):  # asked, for it takes longer to switch it off than to multiply
        with torch.autocast(grad.device.type, enabled=False):
            return grad @ items.transpose(-1, -2)
    return grad @ items.transpose(-1, -2)


def _mix(weights: Tensor, items: Tensor) -> Tensor:
    """``weights @ items``: ``[Q, *, S, N] × [*, N, D] -> [Q, *, S, D]``."""
    items = items.to(weights.dtype)
    if len(weights) == 1:  # without a copy of the items for every query
        return (weights.squeeze(0) @ items).unsqueeze(0)
    return weights @ items
