"""The contract of a critic: a differentiable loss over filled slots.

Shape legend: Q critic queries · `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items ·
D features per item. Lower loss is better.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from selector.batch import Batch


class Critic(nn.Module, ABC):
    """A loss over filled slots, one number per list, never reduced over lists.

    Attributes:
        mixtures: whether mixtures of items can be judged.
        differentiable: whether a gradient reaches the slots.
        exact: whether the loss is the truth; else no oracle found with it is exact.
    """

    mixtures: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    exact: bool = True

    @property
    def title(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @abstractmethod
    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        """Judge filled slots.

        Args:
            slots: ``[Q, *, S, D]``.
            batch: the lists that the slots were filled from, with leading dims ``*``.

        Returns:
            ``[Q, *]``.
        """

    def measure(self, slots: Tensor, batch: Batch) -> Tensor:
        """The loss that is reported of choices which are made; shapes as :meth:`forward`.

        Where the loss is an estimate, it has noise of its own here: a choice that was found because of its luck with
        the noise of :meth:`forward` has no luck here. The noise is that of a list's place in the last of ``*``.
        """
        losses: Tensor = self(slots, batch)
        return losses


class SeparableCritic(Critic):
    """A critic that is a sum over slots of a loss of each slot alone, so that the best choice is found slot by slot."""

    @abstractmethod
    def per_slot(self, slots: Tensor) -> Tensor:
        """The loss of each slot: ``[*, S, D] -> [*, S]``."""

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - depends on the picks alone
        return self.per_slot(slots).sum(-1)

    def table(self, items: Tensor, S: int) -> Tensor:
        """The loss of every item in every slot: ``[*, N, D] -> [*, S, N]``."""
        every_slot = items.unsqueeze(-2).expand(*items.shape[:-1], S, items.shape[-1])
        return self.per_slot(every_slot).transpose(-1, -2)
