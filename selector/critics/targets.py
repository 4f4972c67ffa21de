"""Critics that compare filled slots with target values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic, SeparableCritic
from selector.errors import InvalidInput, check_finite, check_positive


class TargetValue(SeparableCritic):
    """Σ_s Σ_d (x_sd − target)²: every slot wants the item nearest to ``target``. The question this project answers.

    Raises:
        InvalidInput: when ``target`` is not finite.
    """

    def __init__(self, target: float = 5.0) -> None:
        super().__init__()
        check_finite(target=target)
        self.target = target

    def per_slot(self, slots: Tensor) -> Tensor:
        return (slots - self.target).square().sum(-1)


class Power(SeparableCritic):
    """Mean over slots of Σ_d |x_sd − target|^p: the polynomial-programming loss of arXiv 2304.08612.

    Args:
        S: number of slots.
        target: where the loss is zero.
        p: exponent, > 0; the critic is differentiable everywhere for p > 1.

    Raises:
        InvalidInput: when ``p <= 0``, or ``target`` is not finite.
    """

    def __init__(self, S: int, target: float = 0.45, p: float = 2.0) -> None:
        super().__init__()
        check_positive(p=p)
        check_finite(target=target)
        self.S, self.target, self.p = S, target, p

    def per_slot(self, slots: Tensor) -> Tensor:
        return (slots - self.target).abs().pow(self.p).sum(-1) / self.S


class SlotTargets(SeparableCritic):
    """Σ_s Σ_d (x_sd − t_s)²: every slot has a target of its own.

    Args:
        S: number of slots.
        targets: the S targets t_s; None spaces them evenly from ``low`` to ``high``.
        low: target of the first slot when ``targets`` is None.
        high: target of the last slot when ``targets`` is None.

    Raises:
        InvalidInput: when there are not S targets, or one is not finite.
    """

    targets: Tensor

    def __init__(self, S: int, targets: Sequence[float] | None = None, low: float = 2.0, high: float = 8.0) -> None:
        super().__init__()
        check_finite(targets=targets, low=low, high=high)
        if targets is not None and len(targets) != S:
            raise InvalidInput("targets", list(targets), f"must be {S} numbers, one for every slot")
        values = torch.linspace(low, high, S) if targets is None else torch.tensor(targets, dtype=torch.float32)
        self.register_buffer("targets", values)

    def per_slot(self, slots: Tensor) -> Tensor:
        return (slots - self.targets.to(slots.dtype).unsqueeze(-1)).square().sum(-1)


class SumTarget(Critic):
    """Σ_d (Σ_s x_sd − target)²: the slots' total must hit a number, which couples the slots.

    Raises:
        InvalidInput: when ``target`` is not finite.
    """

    def __init__(self, target: float = 20.0) -> None:
        super().__init__()
        check_finite(target=target)
        self.target = target

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - depends on the picks alone
        return (slots.sum(-2) - self.target).square().sum(-1)
