"""Counter-based random streams in Triton: one launch draws for all streams, and any number can be drawn again.

A number depends on nothing but the stream's key, which of its draws it belongs to, and its place in the draw. Hence
the draws of a stream never overlap, and a kernel that needs noise twice makes it twice instead of storing it.

Shape legend: R streams · `*` any dims · N numbers in a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from selector.streams import Streams, check_number

_BLOCK = 256  # counters of a program; each gives 16 random bytes


class Counters(Streams):
    """R streams that one launch fills together.

    Args:
        keys: the R streams' keys, 0 … 2^63 − 1.
        device: where the numbers are drawn: a GPU, or any device in Triton's interpreter.
    """

    def __init__(self, keys: Sequence[int], device: torch.device) -> None:
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        self._draws = 0

    def uniform(self, out: Tensor) -> None:
        self._fill(out, "uniform")

    def gumbel(self, out: Tensor) -> None:
        self._fill(out, "gumbel")

    def normal(self, out: Tensor) -> None:
        self._fill(out, "normal")

    def integers(self, out: Tensor, high: int) -> None:
        if high < 1:
            raise ValueError(f"there is no whole number from 0 to {high - 1}")
        self._fill(out, "integers", high)

    def _fill(self, out: Tensor, kind: str, high: int = 1) -> None:
        fill(out, self._keys, self._draws, kind, high)
        self._draws += 1

    def state_dict(self) -> dict[str, Any]:
        return {"counters": {"streams": len(self._keys), "draws": self._draws}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "counters" not in state:
            raise ValueError("the random streams were saved by torch's generators; Triton draws them on this GPU")
        check_number(state["counters"]["streams"], len(self._keys))
        self._draws = state["counters"]["draws"]

    def gumbel_draw(self) -> "GumbelDraw":
        self._draws += 1
        return GumbelDraw(self._keys, self._draws - 1)


@dataclass(frozen=True)
class GumbelDraw:
    """One draw of Gumbel noise ``[R, *, N]``, float32, to be made wherever it is needed instead of being stored.

    Attributes:
        keys: ``[R]`` int64, the streams' keys.
        draw: how many draws the streams made before.
        first: the row of each stream's whole draw with which a process's part of it begins.
    """

    keys: Tensor
    draw: int
    first: int = 0

    def make(self, shape: Sequence[int]) -> Tensor:
        """The noise ``[*shape]``."""
        out = torch.empty(tuple(shape), device=self.keys.device)
        fill(out, self.keys, self.draw, "gumbel", first=self.first)
        return out


def fill(out: Tensor, keys: Tensor, draw: int, kind: str, high: int = 1, first: int = 0) -> None:
    """Fill ``out`` with draw number ``draw`` of the streams ``keys``.

    Args:
        out: ``[R, *]``, contiguous; float32, float64 or int64.
        keys: ``[R]`` int64.
        draw: how many draws these streams made before.
        kind: "uniform", "gumbel", "normal" or "integers".
        high: the bound of "integers".
        first: the row of the draw with which ``out`` begins.
    """
    if not out.numel():
        return
    while torch._C._functorch.is_functorch_wrapped_tensor(out):  # in torch.func.grad: a kernel wants what is inside
        out = torch._C._functorch.get_unwrapped(out)
    size = out.numel() // len(keys)
    # Every row of Gumbel noise begins with a counter of its own, for the kernels that make it again row by row.
    N = min(size, out.shape[-1]) if kind == "gumbel" and out.dim() else size
    per = 16 // out.element_size()  # numbers of a counter
    rows = size // N
    blocks = triton.cdiv(rows * triton.cdiv(N, per), _BLOCK)
    with torch.cuda.device_of(out), torch._C._DisableFuncTorch():
        _fill[(len(keys) * blocks,)](out, keys, draw, high, first, rows, N, blocks, kind, per, _BLOCK)


@triton.jit(do_not_specialize=["draw", "high", "first", "rows", "N", "blocks"])
def _fill(out, keys, draw, high, first, rows, N, blocks, KIND: tl.constexpr, PER: tl.constexpr, BLOCK: tl.constexpr):
    """One program for every block of a stream's counters."""
    stream = (tl.program_id(0) // blocks).to(tl.int64)
    counter = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_row = tl.cdiv(N, PER)
    a, b, c, d = words(tl.load(keys + stream), draw, counter + first.to(tl.int64) * in_row)
    if PER == 4:
        if KIND == "normal":
            a, b = _normals(_unit(a), _unit(b))
            c, d = _normals(_unit(c), _unit(d))
        else:
            a, b, c, d = _unit(a), _unit(b), _unit(c), _unit(d)
            if KIND == "gumbel":
                a, b, c, d = _gumbel(a), _gumbel(b), _gumbel(c), _gumbel(d)
        numbers = interleave(a, b, c, d)
    else:
        if KIND == "integers":
            a, b = _below(high, a, b), _below(high, c, d)
        else:
            a, b = _wide_unit(a, b), _wide_unit(c, d)
            if KIND == "normal":
                a, b = _normals(a, b)
            if KIND == "gumbel":
                a, b = _gumbel(a), _gumbel(b)
        numbers = tl.interleave(a, b)
    row = counter // in_row
    n = (counter % in_row * PER)[:, None] + tl.arange(0, PER)[None, :]
    place = ((stream * rows + row) * N)[:, None] + n
    tl.store(out + place, tl.reshape(numbers, [BLOCK, PER]), mask=(row < rows)[:, None] & (n < N))


@triton.jit
def words(key, draw, counter):
    """Four times 32 random bits for every int64 counter of a draw: Philox 4x32-10."""
    draw = counter * 0 + draw
    return tl.philox(
        key, counter.to(tl.uint32), (counter >> 32).to(tl.uint32), draw.to(tl.uint32), (draw >> 32).to(tl.uint32)
    )


@triton.jit
def gumbel_rows(key, draw, row, start, N, BLOCK: tl.constexpr):
    """Numbers start … start + BLOCK − 1 of rows ``[M]`` of a "gumbel" draw: ``[M, BLOCK]``.

    ``key`` is one or ``[M, 1]``; start and BLOCK are multiples of 4.
    """
    counter = (row * tl.cdiv(N, 4))[:, None] + (start // 4 + tl.arange(0, BLOCK // 4))[None, :]
    a, b, c, d = words(key + counter * 0, draw, counter)
    return interleave(_gumbel(_unit(a)), _gumbel(_unit(b)), _gumbel(_unit(c)), _gumbel(_unit(d)))


@triton.jit
def interleave(a, b, c, d):
    """a[0], b[0], c[0], d[0], a[1], …"""
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


@triton.jit
def _unit(word):
    """U(0, 1) of 24 bits; an exact 0 becomes half of the spacing, as in :class:`selector.streams.Generators`."""
    return tl.maximum((word >> 8).to(tl.float32) * 2.0**-24, 2.0**-25)


@triton.jit
def _wide_unit(high, low):
    """U(0, 1) of 53 bits."""
    return tl.maximum((_join(high, low) >> 11).to(tl.float64) * 2.0**-53, 2.0**-54)


@triton.jit
def _below(bound, high, low):
    """0 … bound − 1, as the upper half of the 128-bit product with a 64-bit word: without a division."""
    word = _join(high, low)
    return tl.umulhi(word, word * 0 + bound.to(tl.uint64)).to(tl.int64)


@triton.jit
def _join(high, low):
    return (high.to(tl.uint64) << 32) | low.to(tl.uint64)


@triton.jit
def _gumbel(u):
    return -tl.log(-tl.log(u))


@triton.jit
def _normals(u, v):
    """Box and Muller's two normal numbers of two uniform ones."""
    radius, angle = tl.sqrt(-2.0 * tl.log(u)), v * 6.283185307179586
    return radius * tl.cos(angle), radius * tl.sin(angle)
