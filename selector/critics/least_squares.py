"""A critic that fits a decoder: how well do the chosen columns of a table reconstruct all of them?"""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.errors import check_positive

# Slot values (S·D of every query and list) that are judged at once on a CPU: with what is made of them, a few MiB.
_CHUNK = 2**18


class LeastSquares(Critic):
    """Variance of all items that the best affine map from the filled slots leaves unexplained, in percent.

    An item is a column of a table, its D features the column's values in D rows. The decoder reads the S chosen values
    of a row and gives all N of them. Its weights are not learned beside the selector: they are solved for, for every
    choice anew, so the decoder always fits the choice that it judges, and the gradient is that of the solved problem
    (variable projection). A column chosen twice adds nothing.

    With centred columns X, slots Z, G = ZZᵀ/D, C = ZXᵀ/D and total variance V = tr XXᵀ/D, the loss is
    100·(1 − tr Cᵀ(G + ridge·V/N·I)⁻¹C / V): mean squared error in percent of the error without any column. With
    ``squares``, Z are the centred slots and the centred squares of them.

    Args:
        ridge: > 0, in mean variances of an item; without it two equal picks would leave the weights undetermined.
        squares: whether the decoder reads the square of every slot beside the slot, and so bends. Its weights are still
            solved for. D should be several times what it reads, which is S or 2·S.

    Raises:
        InvalidInput: when ``ridge <= 0``.

    References:
        Golub, Pereyra, 1973, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
        variables separate"; Balın, Abid, Zou, 2019, "Concrete autoencoders", arXiv 1901.09346 (the question).
    """

    def __init__(self, ridge: float = 1e-3, squares: bool = False) -> None:
        super().__init__()
        check_positive(ridge=ridge)
        self.ridge, self.squares = ridge, squares

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        N = batch.items.shape[-2]
        items = batch.items - batch.items.mean(-1, keepdim=True)
        total = items.square().mean(-1).sum(-1)
        # The smallest positive number keeps lists of constant columns (nothing to explain) from dividing by zero.
        total = total.clamp(min=torch.finfo(items.dtype).tiny ** 0.5)
        unit = (total / N)[..., None, None]  # the mean variance of an item
        # A CPU takes half as long for parts that stay in its cache.
        size = max(1, _CHUNK // slots[0].numel()) if slots.device.type == "cpu" else len(slots)
        explained = torch.cat([self._explained(part, items, unit) for part in torch.split(slots, size)])
        unexplained: Tensor = 100 * (1 - explained / total)
        return unexplained

    def _explained(self, slots: Tensor, items: Tensor, unit: Tensor) -> Tensor:
        """Variance of the centred ``items [*, N, D]`` that their best map from the slots explains: ``[Q, *]``."""
        D = items.shape[-1]
        inputs = self._inputs(slots - slots.mean(-1, keepdim=True), unit.sqrt())
        ridge = self.ridge * unit * torch.eye(inputs.shape[-2], dtype=slots.dtype, device=slots.device)
        # As one product of a list's queries, for matmul would copy the items for each of them.
        cross = torch.einsum("q...fd,...nd->q...fn", inputs, items) / D
        solved = torch.linalg.solve(inputs @ inputs.transpose(-1, -2) / D + ridge, cross)
        explained: Tensor = (cross * solved).sum((-1, -2))
        return explained

    def _inputs(self, slots: Tensor, scale: Tensor) -> Tensor:
        """What the solved layer reads, centred: the slots and, if asked for, their squares, ``[*, S, D] -> [*, F, D]``.

        Squares are divided by ``scale``, so that the loss stays the same when all columns are multiplied by a number.
        """
        if not self.squares:
            return slots
        squares = slots.square() / scale
        return torch.cat([slots, squares - squares.mean(-1, keepdim=True)], -2)
