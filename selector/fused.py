"""The straight-through Gumbel pick on a GPU, in Triton: its noise is made anew in every pass instead of being stored.

Shape legend: R streams · L lists · S slots · N items · D features per item · `*` any leading dims · M rows of a
program, a row being the N logits of a slot.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from selector.counters import GumbelDraw, gumbel_rows
from selector.selection import BackwardSoftmax, SoftmaxAt, apply, eager, gather, scatter, through_weights

_TILE = 1024  # logits that a program works on at a time
_LONGEST = 256  # of these, at most so many of a row


@dataclass(frozen=True)
class SoftmaxAtDraw(BackwardSoftmax):
    """The softmax at the scores l + G, which are never stored: the backward pass reads the logits and makes G anew.

    Attributes:
        logits: ``[*, S, N]`` float32, where the gradient goes.
        noise: G.
        tau: temperature, > 0.
    """

    logits: Tensor
    noise: GumbelDraw
    tau: float

    def argmax(self) -> Tensor:
        return perturbed_argmax(self.logits.detach(), self.noise)

    def weights(self) -> Tensor:
        return self._stored().weights()

    def pick(self, items: Tensor, index: Tensor) -> Tensor:
        if not eager():
            return self._stored().pick(items, index)
        return apply(_PickThroughDraw, items, index, self.logits, self.noise, self.tau)

    def _stored(self) -> SoftmaxAt:
        scores = self.noise.make(self.logits.shape).add_(self.logits.detach())
        return SoftmaxAt(self.logits, scores, self.tau)


class _PickThroughDraw(torch.autograd.Function):
    """Gather forward; backward J(softmax((l + G)/tau))^T (grad @ items^T) / tau to the logits."""

    @staticmethod
    def forward(items: Tensor, index: Tensor, logits: Tensor, noise: GumbelDraw, tau: float) -> Tensor:  # noqa: ARG004
        return gather(items, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, GumbelDraw, float], output: Tensor) -> None:  # noqa: ARG004
        *tensors, ctx.noise, ctx.tau = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        (grad,) = grads
        items, index, logits = ctx.saved_tensors
        d_items = scatter(items, index, grad) if ctx.needs_input_grad[0] else None
        d_logits = None
        if ctx.needs_input_grad[2]:
            grad, items = grad.to(logits.dtype), items.to(logits.dtype)
            if torch.is_grad_enabled() or not eager():
                d_logits = through_weights(grad, items, SoftmaxAtDraw(logits, ctx.noise, ctx.tau))
            else:
                d_logits = through_draw(grad, items, logits, ctx.noise, ctx.tau)
        return d_items, None, d_logits, None, None


def perturbed_argmax(logits: Tensor, noise: GumbelDraw) -> Tensor:
    """argmax(l + G): ``[*, S, N] -> [*, S]`` int64."""
    out = torch.empty(logits.shape[:-1], dtype=torch.int64, device=logits.device)
    if out.numel():
        N = logits.shape[-1]
        block = _block(N)
        M = _TILE // block
        with torch.cuda.device_of(logits):
            _argmax[(triton.cdiv(out.numel(), M),)](
                out, logits.contiguous(), noise.keys, noise.draw, noise.first,
                out.numel(), out.numel() // len(noise.keys), N, M, block,
            )  # fmt: skip
    return out


def through_draw(grad: Tensor, items: Tensor, logits: Tensor, noise: GumbelDraw, tau: float) -> Tensor:
    """J(p)^T (grad @ items^T) / tau at p = softmax((l + G)/tau).

    ``[*, S, D], [*, N, D], [*, S, N] -> [*, S, N]``.
    """
    out = torch.empty_like(logits, memory_format=torch.contiguous_format)
    if out.numel():
        S, N = logits.shape[-2:]
        lists, block = out.numel() // (S * N), _block(N)
        M = min(1 << (S - 1).bit_length(), _TILE // block)
        with torch.cuda.device_of(logits):
            _gradient[(lists * triton.cdiv(S, M),)](
                out, grad.contiguous(), items.contiguous(), logits.contiguous(), noise.keys, noise.draw, noise.first,
                lists // len(noise.keys), S, float(tau), N, items.shape[-1], M, block,
            )  # fmt: skip
    return out


def _block(N: int) -> int:
    """How much of a row a program works on at a time: a power of two, whole counters."""
    return min(max(4, 1 << (N - 1).bit_length()), _LONGEST)


@triton.jit(do_not_specialize=["draw", "first", "rows", "in_stream"])
def _argmax(out, logits, keys, draw, first, rows, in_stream, N: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    """One program for M rows, of whichever streams."""
    row = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    inside, row = row < rows, tl.minimum(row, rows - 1)  # beyond the last row, it is done again and not stored
    key = tl.load(keys + row // in_stream)[:, None]
    best, index = tl.full([M], float("-inf"), tl.float32), tl.zeros([M], tl.int64)
    for start in range(0, N, BLOCK):
        z = _scores(logits, key, draw, row, first + row % in_stream, start, N, BLOCK)
        highest, n = tl.max(z, 1, return_indices=True)
        index = tl.where(highest > best, start + n, index)
        best = tl.maximum(best, highest)
    tl.store(out + row, index, mask=inside)


@triton.jit(do_not_specialize=["draw", "first", "in_stream", "S"])
def _gradient(
    out,
    grad,
    items,
    logits,
    keys,
    draw,
    first,
    in_stream,
    S,
    tau,
    N: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program for M slots of a list: a pass over the items for the softmax's sums, and a second that uses them."""
    tiles = tl.cdiv(S, M)
    at = (tl.program_id(0) // tiles).to(tl.int64)  # the list
    slot = tl.program_id(0) % tiles * M + tl.arange(0, M)
    inside, slot = slot < S, tl.minimum(slot, S - 1)  # as above
    row = at * S + slot
    key, of_stream = tl.load(keys + at // in_stream), first + at % in_stream * S + slot
    grad += row * D
    items += at * N * D
    highest = tl.full([M], float("-inf"), tl.float32)
    total, weighted = tl.zeros([M], tl.float32), tl.zeros([M], tl.float32)
    for start in range(0, N, BLOCK):
        z = _scores(logits, key, draw, row, of_stream, start, N, BLOCK)
        v = _inner(grad, items, start, N, D, M, BLOCK)
        before, highest = highest, tl.maximum(highest, tl.max(z, 1))
        # As long as all items were masked, whatever is finite: −inf − (−inf) is NaN.
        shift = tl.where(highest == float("-inf"), 0.0, highest)
        e, shrink = tl.exp((z - shift[:, None]) / tau), tl.exp((before - shift) / tau)
        total = total * shrink + tl.sum(e, 1)
        weighted = weighted * shrink + tl.sum(e * v, 1)
    mean = weighted / total
    for start in range(0, N, BLOCK):
        z = _scores(logits, key, draw, row, of_stream, start, N, BLOCK)
        v = _inner(grad, items, start, N, D, M, BLOCK)
        p = tl.exp((z - highest[:, None]) / tau)
        n = start + tl.arange(0, BLOCK)
        # Divided in this order: p·(v − mean) is small where 1/tau is large.
        d = (v - mean[:, None]) * p / (total * tau)[:, None]
        tl.store(out + row[:, None] * N + n[None, :], d, mask=inside[:, None] & (n < N)[None, :])


@triton.jit
def _scores(logits, key, draw, row, of_stream, start, N: tl.constexpr, BLOCK: tl.constexpr):
    """l + G of items start … start + BLOCK − 1: ``[M, BLOCK]``, −inf beyond N."""
    n = start + tl.arange(0, BLOCK)
    z = tl.load(logits + row[:, None] * N + n[None, :], mask=(n < N)[None, :], other=float("-inf"))
    return z + gumbel_rows(key, draw, of_stream, start, N, BLOCK)


@triton.jit
def _inner(grad, items, start, N: tl.constexpr, D: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr):
    """``grad @ items^T`` of these items: ``[M, BLOCK]``, in float32 throughout."""
    n = start + tl.arange(0, BLOCK)
    v = tl.zeros([M, BLOCK], tl.float32)
    for d in range(D):
        g = tl.load(grad + d)
        a = tl.load(items + n * D + d, mask=n < N, other=0.0)
        v += g[:, None] * a[None, :]
    return v
