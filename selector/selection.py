"""What was selected, and where the gradient goes: the op between logits and filled slots.

Shape legend: Q critic queries · `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items ·
D features per item.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Q selections of one item for every slot.

    Attributes:
        index: ``[Q, *, S]`` int64, the items chosen; None when the selection is a mixture.
        weights: ``[Q, *, S, N]``, where the gradient goes (and the value itself when ``index`` is None); None when
            no gradient passes through the picks.
        log_prob: ``[Q, *]``, log-probability of what was drawn, for strategies that weigh losses with it.
        relaxed: ``[M, *, S, N]``, M mixtures that are judged after the Q selections, for control variates.
    """

    index: Tensor | None = None
    weights: Tensor | None = None
    log_prob: Tensor | None = None
    relaxed: Tensor | None = None

    def __post_init__(self) -> None:
        if self.index is None and self.weights is None:
            raise ValueError("a selection needs an index (hard picks), weights (a mixture), or both")

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
        if items.shape[:-2] != lead or (self.weights is not None and items.shape[-2] != self.weights.shape[-1]):
            raise ValueError(
                f"items {tuple(items.shape)} do not fit a selection {tuple(chosen.shape)} ([Q, *, S(, N)])"
            )
        if self.index is None:
            assert self.weights is not None
            picked = _mix(self.weights, items)
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
    picked: Tensor = _PickRows.apply(items, index, weights)  # type: ignore[no-untyped-call]  # torch's stub
    return picked


class _PickRows(torch.autograd.Function):
    """Gather forward; backward also sends ``grad @ items^T`` to the weights. No one-hot is ever made."""

    generate_vmap_rule = True

    @staticmethod
    def forward(items: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:  # noqa: ARG004 - gradient only
        return items.gather(-2, index.unsqueeze(-1).expand(*index.shape, items.shape[-1]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG004
        items, index, weights = inputs
        ctx.save_for_backward(items, index)
        ctx.weights_dtype = None if weights is None else weights.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (grad,) = grads
        items, index = ctx.saved_tensors
        d_items = d_weights = None
        if ctx.needs_input_grad[0]:
            rows = index.unsqueeze(-1).expand(grad.shape)
            d_items = torch.zeros_like(items, memory_format=torch.contiguous_format).scatter_add(-2, rows, grad)
        if ctx.needs_input_grad[2]:
            # In the weights' dtype from the start: the product of half-precision items may overflow.
            d_weights = _inner(grad.to(ctx.weights_dtype), items.to(ctx.weights_dtype))
        return d_items, None, d_weights


def _inner(grad: Tensor, items: Tensor) -> Tensor:
    """``grad @ items^T``: ``[*, S, D] × [*, N, D] -> [*, S, N]``."""
    if items.shape[-1] == 1:  # an outer product: broadcasting is several times faster than a batched matmul of depth 1
        return grad * items.transpose(-1, -2)
    return grad @ items.transpose(-1, -2)


def _mix(weights: Tensor, items: Tensor) -> Tensor:
    """``weights @ items``: ``[Q, *, S, N] × [*, N, D] -> [Q, *, S, D]``."""
    return weights @ items.to(weights.dtype)
