"""The contract of a network, and layers that hold the parameters of many seeds at once.

Shape legend: R seeds trained side by side · B batch · S slots · N items · D features per item ·
C features per list · H hidden units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from selector.batch import Batch
from selector.errors import InvalidInput, check_at_least, check_choice
from selector.noise import SeedNoise

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
NORMS = ("none", "layer")


class Network(nn.Module, ABC):
    """Reads lists of items, gives the logits of every item in every slot, for R seeds at once.

    Every parameter has a leading dim R. A seed's initial parameters depend on that seed alone.

    Args:
        N: items in a list.
        S: slots.
        D: features of an item.
        seeds: the R seeds, all different.
        C: features of a list as a whole.

    Attributes:
        any_N: whether lists of another length than N can be read.

    Raises:
        InvalidInput: for sizes below 1, or seeds that are none or repeated.
    """

    any_N: bool = False

    def __init__(self, N: int, S: int, D: int, seeds: Sequence[int], C: int = 0) -> None:
        super().__init__()
        check_at_least(1, N=N, S=S, D=D)
        check_at_least(0, C=C)
        self.N, self.S, self.D, self.C, self.seeds = N, S, D, C, tuple(seeds)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InvalidInput("seeds", list(self.seeds), "must be one or more seeds, all different")

    @property
    def title(self) -> str:
        """What kind of network this is, for a user to read."""
        return type(self).__name__

    def init_noise(self) -> SeedNoise:
        """The streams that initial parameters are drawn from (always on the CPU: the same start on every device)."""
        return SeedNoise(self.seeds, "init")

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[R, B, S, N]`` of lists with leading dims ``[R, B]``; the caller masks them."""

    def with_context(self, features: Tensor, batch: Batch) -> Tensor:
        """Append what is known about the list: ``[R, B, F] -> [R, B, F + C]``."""
        if not self.C:
            return features
        if batch.context is None or batch.context.shape[-1] != self.C:
            there = 0 if batch.context is None else batch.context.shape[-1]
            raise ValueError(f"the network reads {self.C} context features of a list; this one has {there}")
        return torch.cat([features, batch.context], -1)


class StackedLinear(nn.Module):
    """R affine maps side by side: ``[R, B, in] -> [R, B, out]``, one batched matmul.

    Args:
        noise: R streams for the initial weights.
        seeds: R.
        inputs: features in.
        outputs: features out.
        gain: initial weights are uniform in ±gain/√in.
        bias: initial biases are normal with this standard deviation; None: the map has none.
    """

    def __init__(
        self,
        noise: SeedNoise,
        seeds: int,
        inputs: int,
        outputs: int,
        gain: float = 1.0,
        bias: float | None = 0.0,
    ) -> None:
        super().__init__()
        weight = noise.uniform([seeds, inputs, outputs]).mul_(2).sub_(1).mul_(gain / inputs**0.5)
        self.weight = nn.Parameter(weight)
        self.bias: nn.Parameter | None = None
        if bias is not None:
            drawn = noise.normal([seeds, 1, outputs]).mul_(bias) if bias else torch.zeros(seeds, 1, outputs)
            self.bias = nn.Parameter(drawn)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class StackedLayerNorm(nn.Module):
    """Layer normalisation with a scale and a shift per seed: ``[R, B, H] -> [R, B, H]``."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(seeds, 1, width))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:]) * self.scale + self.shift


class StackedMLP(nn.Module):
    """R multi-layer perceptrons side by side: ``depth`` hidden layers of ``width``, then an affine map.

    Args:
        noise: R streams for the initial weights.
        seeds: R.
        inputs: features in.
        outputs: features out.
        width: hidden units of a layer, >= 1.
        depth: hidden layers, >= 0.
        activation: one of ``ACTIVATIONS``.
        norm: "layer" normalises every hidden layer before its activation; "none" does not.
        last_gain: size of the last layer's initial weights; small for outputs near zero.
        bias: standard deviation of the hidden layers' initial biases. Where outputs are normalised it must not be 0:
            without biases, relu-like layers scale with their input, and the normalisation takes that away.

    Raises:
        InvalidInput: for values out of these ranges.
    """

    def __init__(
        self,
        noise: SeedNoise,
        seeds: int,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        activation: str,
        norm: str,
        last_gain: float = 1.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width)
        check_at_least(0, depth=depth)
        check_choice(ACTIVATIONS, activation=activation)
        check_choice(NORMS, norm=norm)
        self.activation = ACTIVATIONS[activation]
        sizes = [inputs, *[width] * depth]
        # √6: He's uniform initialisation, which keeps the scale of activations through relu-like layers.
        self.hidden = nn.ModuleList(
            StackedLinear(noise, seeds, i, o, gain=6**0.5, bias=bias) for i, o in pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            StackedLayerNorm(seeds, width) if norm == "layer" else nn.Identity() for _ in range(depth)
        )
        self.last = StackedLinear(noise, seeds, sizes[-1], outputs, gain=last_gain)

    def forward(self, x: Tensor) -> Tensor:
        """``[R, B, inputs] -> [R, B, outputs]``."""
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        out: Tensor = self.last(x)
        return out
