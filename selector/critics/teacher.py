"""A critic that is itself a network: frozen, random, and coupling all slots."""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.errors import check_at_least, check_positive
from selector.noise import Noise


class Teacher(Critic):
    """A frozen random MLP with one tanh hidden layer over all filled slots: w2·tanh(W1 x / scale + b1).

    Args:
        S: number of slots.
        D: features per item.
        width: hidden units.
        scale: typical size of a feature, which the input is divided by so that the hidden layer is not saturated.
        seed: chooses the network; the same for every run, so that runs are comparable.

    Raises:
        InvalidInput: when ``width < 1`` or ``scale <= 0``.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor

    def __init__(self, S: int, D: int, width: int = 64, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        check_at_least(1, width=width)
        check_positive(scale=scale)
        noise = Noise(seed, "teacher")
        # Gain 2 puts tanh into its curved part: a nearly linear teacher would be nearly separable.
        self.register_buffer("w1", noise.normal([S * D, width]) * (2.0 / (S * D) ** 0.5 / scale))
        self.register_buffer("b1", noise.normal([width]))
        self.register_buffer("w2", noise.normal([width]) / width**0.5)

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - depends on the picks alone
        hidden = torch.tanh(slots.flatten(-2) @ self.w1.to(slots.dtype) + self.b1.to(slots.dtype))
        return hidden @ self.w2.to(slots.dtype)
