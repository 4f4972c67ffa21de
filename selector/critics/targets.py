"""Critics that compare filled slots with target values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic, SeparableCritic
from selector.errors import InvalidInput


class TargetValue(SeparableCritic):
    """Σ_s Σ_d (x_sd − target)²: every slot wants the item nearest to ``target``. The question this project answers."""

    def __init__(self, target: float = 5.0) -> None:
        super().__init__()
        self.target = target

    def per_slot(self, slots: Tensor) -> Tensor:
        return (slots - self.target).square().sum(-1)


class SlotTargets(SeparableCritic):
    """Σ_s Σ_d (x_sd − t_s)²: every slot has a target of its own.

    Args:
        S: number of slots.
        targets: the S targets t_s; None spaces them evenly from ``low`` to ``high``.
        low: target of the first slot when ``targets`` is None.
        high: target of the last slot when ``targets`` is None.

    Raises:
        InvalidInput: when there are not S targets.
    """

    targets: Tensor

    def __init__(self, S: int, targets: Sequence[float] | None = None, low: float = 2.0, high: float = 8.0) -> None:
        super().__init__()
        if targets is not None and len(targets) != S:
            raise InvalidInput("targets", list(targets), f"must be {S} numbers, one for every slot")
        values = torch.linspace(low, high, S) if targets is None else torch.tensor(targets, dtype=torch.float32)
        self.register_buffer("targets", values)

    def per_slot(self, slots: Tensor) -> Tensor:
        return (slots - self.targets.to(slots.dtype).unsqueeze(-1)).square().sum(-1)


class SumTarget(Critic):
    """Σ_d (Σ_s x_sd − target)²: the slots' total must hit a number, which couples the slots."""

    def __init__(self, target: float = 20.0) -> None:
        super().__init__()
        self.target = target

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - depends on the picks alone
        return (slots.sum(-2) - self.target).square().sum(-1)
