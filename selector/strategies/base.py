"""The contract of a selection strategy (a gradient estimator): ask for selections, tell their losses.

Shape legend: Q critic queries · `*` any leading dims (in training ``[R, B]``: seeds, batch) · S slots · N items.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from selector.noise import Noise
from selector.selection import Selection


class Strategy(nn.Module, ABC):
    """What stands between logits and selection.

    Training asks the strategy for Q selections, fills the slots, has the critic judge all of them, and tells the
    strategy the losses; it differentiates what :meth:`surrogate` returns. A strategy knows neither the critic nor how
    many seeds are trained side by side.

    Attributes:
        needs_target: whether :meth:`select` wants the oracle's items.
        without_replacement: whether a selection never uses an item for two slots.
        hard: whether the filled slots are exact items (else they are mixtures).
    """

    needs_target: ClassVar[bool] = False
    without_replacement: ClassVar[bool] = False
    hard: ClassVar[bool] = True

    @abstractmethod
    def select(self, logits: Tensor, tau: float, noise: Noise, target: Tensor | None = None) -> Selection:
        """Ask: choose an item for every slot.

        Args:
            logits: ``[*, S, N]``; −inf marks an item that must not be chosen.
            tau: temperature, > 0; strategies without one ignore it.
            noise: the random stream to draw from, in float32 or wider.
            target: ``[*, S]`` int64, the oracle's items; given only to strategies with ``needs_target``.

        Returns:
            A selection of Q >= 1 draws.
        """

    def surrogate(self, selection: Selection, losses: Tensor) -> Tensor:  # noqa: ARG002 - for score-function strategies
        """Tell: turn the critic's losses into what is differentiated.

        The *value* of the result is the loss itself, its *gradient* is the estimator.

        Args:
            selection: what :meth:`select` returned.
            losses: ``[Q, *]``, the critic's loss of every selection.

        Returns:
            ``[*]``.
        """
        return losses.mean(0)


def wide(logits: Tensor) -> Tensor:
    """Logits in float32 at least: softmax(l/tau) overflows in half precision for small tau."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
