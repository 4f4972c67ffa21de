"""What a problem hands to the network and to the critic.

Shape legend: `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items · D features per item ·
C features per list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Lists of items.

    Attributes:
        items: ``[*, N, D]``.
        mask: which items are allowed: ``[*, 1, N]`` (the same for every slot) or ``[*, S, N]``, bool; None allows all.
        context: ``[*, C]``, what is known about the list as a whole; None where C is 0.
    """

    items: Tensor
    mask: Tensor | None = None
    context: Tensor | None = None

    @property
    def allowed(self) -> Tensor | None:
        """``[*, N]`` bool, the items that some slot may choose; None is all."""
        return None if self.mask is None else self.mask.any(-2)

    def expand(self, *lead: int) -> "Batch":
        """The same lists behind new leading dims, without a copy: ``[*, …] -> [*lead, *, …]``."""
        return self._map(lambda t, _: t.expand(*lead, *t.shape))

    def repeat(self, K: int) -> "Batch":
        """The same lists K times behind their first leading dim, without a copy: ``[R, *, …] -> [R, K, *, …]``."""
        return self._map(lambda t, _: t.unsqueeze(1).expand(t.shape[0], K, *t.shape[1:]))

    def reshape(self, *lead: int) -> "Batch":
        """The same lists with other leading dims of equal size: ``[*, …] -> [*lead, …]``."""
        return self._map(lambda t, own: t.reshape(*lead, *t.shape[-own:]))

    def to(self, device: torch.device | str) -> "Batch":
        """The same lists on another device."""
        return self._map(lambda t, _: t.to(device))

    def narrow(self, start: int, length: int) -> "Batch":
        """Lists ``start … start + length − 1`` of the first dim."""
        return self._map(lambda t, _: t.narrow(0, start, length))

    def masked(self, logits: Tensor) -> Tensor:
        """``[*, S, N]`` logits with −inf at items that are not allowed; no gradient passes there."""
        return logits if self.mask is None else logits.masked_fill(~self.mask, float("-inf"))

    def _map(self, change: Callable[[Tensor, int], Tensor]) -> "Batch":
        """``change`` is given each tensor and how many of its last dims are its own."""
        parts = ((self.items, 2), (self.mask, 2), (self.context, 1))
        items, mask, context = (None if t is None else change(t, own) for t, own in parts)
        assert items is not None
        return Batch(items, mask, context)


def check_mask(mask: Tensor) -> None:
    """Refuse masks that leave a slot nothing to choose from.

    Args:
        mask: ``[*, 1 or S, N]`` bool.

    Raises:
        ValueError: naming the first list and slot without an allowed item.
    """
    nothing = ~mask.any(-1)
    if nothing.any():
        where = nothing.nonzero()[0].tolist()
        slot = f"slot {where[-1]}" if mask.shape[-2] > 1 else "every slot"
        raise ValueError(f"the mask allows no item at all for {slot} of list {where[:-1]}")
