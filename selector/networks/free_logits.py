"""No network at all: the logits themselves are the parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selector.batch import Batch
from selector.errors import check_at_least
from selector.networks.base import Network


class FreeLogits(Network):
    """The same S×N logits for every list. For problems whose list never changes, such as choosing columns of a table.

    Args:
        N: items in a list.
        S: slots.
        D: features of an item; not read. Nor is the context of a list.
        seeds: the R seeds trained side by side.
        scale: initial logits are uniform in ±scale.
        C: features of a list as a whole.

    Raises:
        InvalidInput: for values out of range.
    """

    def __init__(
        self, N: int, S: int, D: int = 1, seeds: Sequence[int] = (0,), scale: float = 0.01, C: int = 0
    ) -> None:
        super().__init__(N, S, D, seeds, C)
        check_at_least(0, scale=scale)
        noise = self.init_noise().uniform([len(self.seeds), S, N])
        self.logits = nn.Parameter(noise.mul_(2 * scale).sub_(scale))

    def forward(self, batch: Batch) -> Tensor:
        R, B, N, _ = batch.items.shape
        if N != self.N:
            raise ValueError(f"free logits of {self.N} items cannot read a list of {N}")
        return torch.broadcast_to(self.logits.unsqueeze(1), (R, B, self.S, self.N))
