"""A critic that wants good items which differ from each other."""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.errors import check_at_least, check_positive


class Diversity(Critic):
    """−Σ_s x_s0 + penalty·Σ_{s<t} exp(−‖x_s − x_t‖² / (2·radius²)): reward quality, punish similar picks.

    The first feature of an item is its quality.

    Args:
        penalty: price of two identical picks, >= 0.
        radius: distance over which two picks count as similar, > 0.

    Raises:
        InvalidInput: for values out of these ranges.
    """

    def __init__(self, penalty: float = 1.0, radius: float = 1.0) -> None:
        super().__init__()
        check_at_least(0, penalty=penalty)
        check_positive(radius=radius)
        self.penalty, self.radius = penalty, radius

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - depends on the picks alone
        squared = (slots.unsqueeze(-2) - slots.unsqueeze(-3)).square().sum(-1)
        similar = torch.exp(-squared / (2 * self.radius**2))
        pairs = (similar.sum((-1, -2)) - slots.shape[-2]) / 2  # the diagonal is 1 for every slot
        return self.penalty * pairs - slots[..., 0].sum(-1)
