"""A critic that fits a decoder: how well do the chosen columns of a table reconstruct all of them?"""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.errors import check_positive


class LeastSquares(Critic):
    """Variance of all items that the best affine map from the filled slots leaves unexplained, in percent.

    An item is a column of a table, its D features the column's values in D rows. The decoder reads the S chosen values
    of a row and gives all N of them. Its weights are not learned beside the selector: they are solved for, for every
    choice anew, so the decoder always fits the choice that it judges, and the gradient is that of the solved problem
    (variable projection). A column chosen twice adds nothing.

    With centred columns X, slots Z, G = ZZᵀ/D, C = ZXᵀ/D and total variance V = tr XXᵀ/D, the loss is
    100·(1 − tr Cᵀ(G + ridge·V/N·I)⁻¹C / V): mean squared error in percent of the error without any column.

    Args:
        ridge: > 0, in mean variances of an item; without it two equal picks would leave the weights undetermined.

    Raises:
        InvalidInput: when ``ridge <= 0``.

    References:
        Golub, Pereyra, 1973, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
        variables separate"; Balın, Abid, Zou, 2019, "Concrete autoencoders", arXiv 1901.09346 (the question).
    """

    def __init__(self, ridge: float = 1e-3) -> None:
        super().__init__()
        check_positive(ridge=ridge)
        self.ridge = ridge

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        N, D = batch.items.shape[-2:]
        items = batch.items - batch.items.mean(-1, keepdim=True)
        slots = slots - slots.mean(-1, keepdim=True)
        total = items.square().mean(-1).sum(-1)
        # The smallest positive number keeps lists of constant columns (nothing to explain) from dividing by zero.
        total = total.clamp(min=torch.finfo(items.dtype).tiny ** 0.5)
        unit = torch.eye(slots.shape[-2], dtype=slots.dtype, device=slots.device)
        gram = slots @ slots.transpose(-1, -2) / D + (self.ridge * total / N)[..., None, None] * unit
        cross = slots @ items.transpose(-1, -2) / D  # [Q, *, S, N]
        explained = (cross * torch.linalg.solve(gram, cross)).sum((-1, -2))
        unexplained: Tensor = 100 * (1 - explained / total)
        return unexplained
