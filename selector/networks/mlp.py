"""The plain network: reads the whole list as one vector."""

import warnings
from collections.abc import Sequence

from torch import Tensor

from selector.batch import Batch
from selector.networks.base import Network, StackedMLP

_LARGE = 2**24  # weights of a last layer; with gradient and Adam's two moments a quarter of a GiB for every seed


class MLP(Network):
    """Flattens the N×D items, gives all S×N logits from one hidden vector.

    Its last layer has width·S·N weights, and it must learn for every position anew what a good item looks like: for
    large S·N use ``pointer``.

    Args:
        N: items in a list.
        S: slots.
        D: features of an item.
        seeds: the R seeds trained side by side.
        width: hidden units of a layer.
        depth: hidden layers.
        activation: relu, gelu, silu or tanh.
        norm: none, or layer.
        C: features of a list as a whole.

    Warns:
        UserWarning: when the last layer has more than 2^24 weights.

    Raises:
        InvalidInput: for values out of range.
    """

    def __init__(
        self,
        N: int,
        S: int,
        D: int = 1,
        seeds: Sequence[int] = (0,),
        width: int = 128,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "none",
        C: int = 0,
    ) -> None:
        super().__init__(N, S, D, seeds, C)
        if width * S * N > _LARGE:
            warnings.warn(
                f"mlp: the last layer has width*S*N = {width * S * N:,} weights for every seed; "
                "network=pointer has as many for any S and N",
                stacklevel=2,
            )
        # Initial logits near zero: every item starts with the same chance in every slot.
        self.body = StackedMLP(
            self.init_noise(),
            len(self.seeds),
            N * D + C,
            S * N,
            width=width,
            depth=depth,
            activation=activation,
            norm=norm,
            last_gain=0.01,
        )

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.body(self.with_context(batch.items.flatten(-2), batch)).unflatten(-1, (self.S, self.N))
        return logits
