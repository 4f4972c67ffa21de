"""Standardisation of what a network reads.

Shape legend: `*` any leading dims · S slots · N items · D features per item · C features per list.
"""

import torch
from torch import Tensor, nn

from selector.batch import Batch


class Scale(nn.Module):
    """(x − mean) / std for every feature of items and context. Mean and std are part of the state.

    Items that no slot may choose become zero, which is the mean of all others: what stands in the padding of a short
    list changes nothing.

    Args:
        mean: ``[D]``.
        std: ``[D]``; 0, of a feature that is always the same, counts as 1.
        context_mean: ``[C]``; None where C is 0.
        context_std: ``[C]``; as ``std``.
    """

    mean: Tensor
    std: Tensor
    context_mean: Tensor
    context_std: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, context_mean: Tensor | None = None, context_std: Tensor | None = None
    ) -> None:
        super().__init__()
        nothing = torch.empty(0)
        given = {
            "mean": mean,
            "std": std,
            "context_mean": nothing if context_mean is None else context_mean,
            "context_std": nothing if context_std is None else context_std,
        }
        for name, value in given.items():
            value = value.float()
            self.register_buffer(name, torch.where(value > 0, value, 1.0) if name.endswith("std") else value.clone())

    @staticmethod
    def none(D: int, C: int) -> "Scale":
        """Mean 0 and standard deviation 1, to load others into."""
        return Scale(torch.zeros(D), torch.ones(D), torch.zeros(C), torch.ones(C))

    def forward(self, batch: Batch) -> Batch:
        """The same lists, standardised."""
        items = (batch.items - self.mean) / self.std
        if batch.allowed is not None:  # where, not a product: the padding may be NaN
            items = torch.where(batch.allowed.unsqueeze(-1), items, 0.0)
        context = None if batch.context is None else (batch.context - self.context_mean) / self.context_std
        return Batch(items, batch.mask, context)
