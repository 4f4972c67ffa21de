"""Optimizers whose every step treats the seeds apart: element-wise updates, gradients clipped per seed.

Shape legend: R seeds trained side by side.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selector.errors import InvalidInput, check_at_least, check_choice, check_positive
from selector.schedules import Constant, Cosine, Exponential, Linear, Schedule

SCHEDULES: dict[str, type[Linear] | type[Exponential] | type[Cosine]] = {
    "linear": Linear,
    "exponential": Exponential,
    "cosine": Cosine,
}


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(ABC):
    """What all optimizers share.

    Args:
        lr: learning rate, > 0.
        weight_decay: >= 0.
        clip: largest norm of one seed's gradient; a larger one is scaled down to it. None: no clipping.
        schedule: how the learning rate falls: constant, linear, exponential or cosine.
        end_factor: share of ``lr`` that is left at the last step, in (0, 1]; without effect when constant.
        warmup: steps over which the learning rate rises to ``lr``.

    Raises:
        InvalidInput: for values out of these ranges.
    """

    lr: float = 2e-3
    weight_decay: float = 0.0
    clip: float | None = None
    schedule: str = "constant"
    end_factor: float = 0.01
    warmup: int = 0

    def __post_init__(self) -> None:
        check_positive(lr=self.lr, clip=self.clip, end_factor=self.end_factor)
        if self.end_factor > 1:
            raise InvalidInput("end_factor", self.end_factor, "must be <= 1")
        check_at_least(0, weight_decay=self.weight_decay, warmup=self.warmup)
        check_choice(["constant", *SCHEDULES], schedule=self.schedule)

    @abstractmethod
    def build(self, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The torch optimizer over ``parameters``, or over groups of them that depart from these options."""

    def factor(self, max_steps: int) -> Schedule:
        """The learning rate of every step as a share of ``lr``."""
        start = 1 / (self.warmup + 1) if self.warmup else None
        if self.schedule == "constant":
            return Constant(value=1.0, warmup=self.warmup, warmup_start=start)
        steps = max(max_steps, self.warmup + 1)
        annealed = SCHEDULES[self.schedule]
        return annealed(start=1.0, end=self.end_factor, steps=steps, warmup=self.warmup, warmup_start=start)


@dataclass(frozen=True, kw_only=True)
class Adam(OptimizerOptions):
    """Adam (Kingma and Ba, 2014, arXiv 1412.6980)."""

    beta1: float = 0.9
    beta2: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, beta1=self.beta1, beta2=self.beta2)
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise InvalidInput(name, getattr(self, name), "must be < 1")

    def build(self, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            weight_decay=self.weight_decay,
            **_kernel(parameters),
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017, arXiv 1711.05101)."""

    def build(self, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            weight_decay=self.weight_decay,
            **_kernel(parameters),
        )


@dataclass(frozen=True, kw_only=True)
class SGD(OptimizerOptions):
    """Stochastic gradient descent with momentum."""

    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, momentum=self.momentum)

    def build(self, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, **_kernel(parameters)
        )


def _kernel(parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Which of torch's implementations to use: the fused one (a single pass) wherever it treats seeds apart.

    On a CPU it updates 16 floats at a time and what is left over with other roundings. A seed whose parameters do not
    fill whole groups of 16 would then differ in the last bit between a stacked run and a run alone.
    """
    flat = [p for group in parameters for p in (group["params"] if isinstance(group, dict) else [group])]
    fused = all(p.device.type != "cpu" or p[0].numel() % 16 == 0 for p in flat)
    return {"fused": True} if fused else {"foreach": True}


@torch.no_grad()
def clip_per_seed(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale each seed's gradient down to norm ``largest``, in place.

    Args:
        parameters: each ``[R, …]``.
        largest: > 0.

    Returns:
        ``[R]``, the norms before.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    squares = [g.reshape(len(g), -1).square().sum(1) for g in grads]
    norms = torch.stack(squares).sum(0).sqrt()
    scale = (largest / norms.clamp(min=1e-12)).clamp(max=1.0)
    for g in grads:
        g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))
    return norms
