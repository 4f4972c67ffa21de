"""Random streams: one per seed, so that a seed draws the same numbers alone and beside others.

Shape legend: Q critic queries · R seeds trained side by side · B batch · `*` any leading dims.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selector.streams import Streams, streams

if TYPE_CHECKING:
    from selector.counters import GumbelDraw


def derive_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the stream named ``stream`` of run seed ``seed``: different names give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Noise:
    """One random stream of its own. Nothing in this project draws from torch's global generator.

    All draws are float32 or wider whatever the dtype of the logits: half precision cannot hold the tails.

    Args:
        seed: any integer.
        stream: what the numbers are for ("items", "strategy", …); streams of one seed are independent.
        device: where the numbers are drawn. Streams of different device kinds differ, and those of a GPU with and
            without Triton.
    """

    def __init__(self, seed: int = 0, stream: str = "", device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._streams = streams([derive_seed(seed, stream)], self.device)

    def uniform(self, shape: Sequence[int], *, draws: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """U(0, 1) on the open interval, ``[*shape]``, or ``[draws, *shape]`` when ``draws`` is given."""
        return self._draw(lambda streams, out: streams.uniform(out), shape, draws, dtype)

    def gumbel(self, shape: Sequence[int], *, draws: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Gumbel(0, 1) = −log(−log u); finite always. Shape as for :meth:`uniform`."""
        return self._draw(lambda streams, out: streams.gumbel(out), shape, draws, dtype)

    def gumbel_draw(self, shape: Sequence[int]) -> "GumbelDraw | None":  # noqa: ARG002 - for streams of seeds
        """What :meth:`gumbel` would draw in float32, for kernels that make it where they need it.

        None, and nothing is drawn, where the numbers cannot be made again.
        """
        return self._streams.gumbel_draw()

    def normal(self, shape: Sequence[int], *, draws: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """N(0, 1). Shape as for :meth:`uniform`."""
        return self._draw(lambda streams, out: streams.normal(out), shape, draws, dtype)

    def integers(self, high: int, shape: Sequence[int], *, draws: int | None = None) -> Tensor:
        """Whole numbers 0 … high − 1, int64. Shape as for :meth:`uniform`."""
        return self._draw(lambda streams, out: streams.integers(out, high), shape, draws, torch.int64)

    def _draw(
        self,
        fill: Callable[[Streams, Tensor], None],
        shape: Sequence[int],
        draws: int | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        full = tuple(shape) if draws is None else (draws, *shape)
        out = torch.empty(full, dtype=_wide(dtype), device=self.device)
        fill(self._streams, out)
        return out

    def state_dict(self) -> dict[str, Any]:
        """The stream's position; loading it continues the stream exactly where it was."""
        return self._streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: when ``state`` holds another number of streams, or comes from another kind of device.
        """
        self._streams.load_state_dict(state)


class SeedNoise(Noise):
    """R streams for tensors ``[R, B, …]``: seed r's slice does not depend on which other seeds are present.

    Args:
        seeds: the R seeds.
        stream: as for :class:`Noise`.
        device: as for :class:`Noise`.
        shard: (rank, world size) when a batch is split over processes: each process draws the numbers of the whole
            batch and keeps its own part of dim 1, so that W processes follow the path of one.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        stream: str = "",
        device: torch.device | str = "cpu",
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.device = torch.device(device)
        self._seeds = len(seeds)
        self._streams = streams([derive_seed(seed, stream) for seed in seeds], self.device)
        self._rank, self._world = shard

    def gumbel_draw(self, shape: Sequence[int]) -> "GumbelDraw | None":
        self._check_seeds(shape)
        draw = self._streams.gumbel_draw()
        return None if draw is None else replace(draw, first=self._rank * math.prod(shape[1:-1]))

    def _draw(
        self,
        fill: Callable[[Streams, Tensor], None],
        shape: Sequence[int],
        draws: int | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        self._check_seeds(shape)
        R, *rest = shape
        if self._world > 1:
            rest[0] *= self._world
        per_seed = rest if draws is None else [draws, *rest]
        out = torch.empty((R, *per_seed), dtype=_wide(dtype), device=self.device)
        fill(self._streams, out)
        if draws is not None:
            out = out.transpose(0, 1)
        if self._world > 1:
            dim = 1 if draws is None else 2
            local = rest[0] // self._world
            out = out.narrow(dim, self._rank * local, local)
        return out

    def _check_seeds(self, shape: Sequence[int]) -> None:
        if self._seeds != shape[0]:
            raise ValueError(f"expected a leading dim of {self._seeds} seeds, got shape {tuple(shape)}")


class Replay(Noise):
    """Records what another stream draws; after :meth:`rewind` it gives the same numbers again. For tests and probes."""

    def __init__(self, source: Noise) -> None:
        self.device = source.device
        self._source = source
        self._streams = source._streams
        self._tape: list[Tensor] = []
        self._position = 0

    def rewind(self) -> "Replay":
        """Start again at the first recorded draw."""
        self._position = 0
        return self

    def gumbel_draw(self, shape: Sequence[int]) -> None:  # noqa: ARG002 - what is recorded are numbers
        return None

    def _draw(
        self,
        fill: Callable[[Streams, Tensor], None],
        shape: Sequence[int],
        draws: int | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        if self._position == len(self._tape):
            self._tape.append(self._source._draw(fill, shape, draws, dtype).clone())
        drawn = self._tape[self._position]
        expected = tuple(shape) if draws is None else (draws, *shape)
        if tuple(drawn.shape) != expected:
            raise ValueError(f"draw {self._position} was recorded as {tuple(drawn.shape)}, now asked for {expected}")
        self._position += 1
        return drawn.clone()


def _wide(dtype: torch.dtype | None) -> torch.dtype:
    if dtype is None or dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype
