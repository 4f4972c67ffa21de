"""What a problem hands to the network and to the critic."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Lists of items, of any leading dims ``*`` (in training ``[R, B]``: seeds, batch).

    Attributes:
        items: ``[*, N, D]``.
    """

    items: Tensor

    def expand(self, *lead: int) -> "Batch":
        """The same lists behind new leading dims, without a copy: ``[*, N, D] -> [*lead, *, N, D]``."""
        return Batch(self.items.expand(*lead, *self.items.shape))

    def to(self, device: torch.device | str) -> "Batch":
        """The same lists on another device."""
        return Batch(self.items.to(device))

    def narrow(self, start: int, length: int) -> "Batch":
        """Lists ``start … start + length − 1`` of the first dim."""
        return Batch(self.items.narrow(0, start, length))
