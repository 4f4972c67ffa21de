"""Where random numbers come from: torch's generators on a CPU, counters on a GPU.

Shape legend: R streams · `*` any dims.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from selector.counters import GumbelDraw

# Half of the spacing of float32 uniforms: what a drawn 0 is replaced by, so that log(u) is finite.
SMALLEST_UNIFORM = 2.0**-25


class Streams(ABC):
    """R random streams. Each method fills a contiguous ``[R, *]``, a block for every stream, and moves on.

    A single stream takes a ``[*]`` as well.

    What a stream fills does not depend on which other streams are beside it.
    """

    @abstractmethod
    def uniform(self, out: Tensor) -> None:
        """U(0, 1) on the open interval."""

    @abstractmethod
    def gumbel(self, out: Tensor) -> None:
        """Gumbel(0, 1), finite always."""

    def gumbel_draw(self) -> "GumbelDraw | None":
        """Move on by one float32 draw of :meth:`gumbel`, to be made later; None where numbers cannot be made again."""
        return None

    @abstractmethod
    def normal(self, out: Tensor) -> None:
        """N(0, 1)."""

    @abstractmethod
    def integers(self, out: Tensor, high: int) -> None:
        """Whole numbers 0 … high − 1."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The streams' positions; loading them continues the streams exactly where they were."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when ``state`` holds another number of streams, or comes from another kind of device.
        """


class Generators(Streams):
    """Torch's own generators, one per stream: R streams take R calls for a draw.

    Args:
        keys: the R generators' seeds, 0 … 2^63 − 1.
        device: where the numbers are drawn.
    """

    def __init__(self, keys: Sequence[int], device: torch.device) -> None:
        self._device = device
        self._generators = [torch.Generator(device).manual_seed(key) for key in keys]

    def uniform(self, out: Tensor) -> None:
        # u < 1 holds for torch's uniforms already; only an exact 0 has to be lifted.
        self._each(out, lambda block, g: block.uniform_(generator=g).clamp_(min=SMALLEST_UNIFORM))

    def gumbel(self, out: Tensor) -> None:
        # Twice a vectorised log costs less than half of Tensor.exponential_, which is serial on a CPU.
        self.uniform(out)
        out.log_().neg_().log_().neg_()

    def normal(self, out: Tensor) -> None:
        self._each(out, lambda block, g: block.normal_(generator=g))

    def integers(self, out: Tensor, high: int) -> None:
        self._each(out, lambda block, g: block.random_(0, high, generator=g))

    def _each(self, out: Tensor, fill: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        # Every stream fills a contiguous block: how torch lays random numbers into a strided view is not documented.
        blocks = [out] if len(self._generators) == 1 else out.unbind()
        for block, generator in zip(blocks, self._generators, strict=True):
            fill(block, generator)

    def state_dict(self) -> dict[str, Any]:
        return {"generators": [g.get_state() for g in self._generators]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "generators" not in state:
            raise ValueError(f"the random streams were saved on a GPU with Triton; torch draws them on {self._device}")
        states = state["generators"]
        check_number(len(states), len(self._generators))
        for generator, saved in zip(self._generators, states, strict=True):
            if saved.numel() != generator.get_state().numel():
                raise ValueError(f"the random streams were saved on another kind of device than {self._device.type}")
            generator.set_state(saved.cpu())


def check_number(saved: int, here: int) -> None:
    """Refuse the state of another number of streams.

    Raises:
        ValueError: when the two differ.
    """
    if saved != here:
        raise ValueError(f"the state holds {saved} random streams, this run has {here}")


def streams(keys: Sequence[int], device: torch.device) -> Streams:
    """The streams with these keys: counters on a GPU if Triton is there, else torch's generators."""
    if device.type == "cuda":
        try:
            from selector.counters import Counters
        except ImportError:  # torch for a GPU brings Triton along on Linux alone
            return Generators(keys, device)
        return Counters(keys, device)
    return Generators(keys, device)
