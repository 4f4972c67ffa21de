"""A critic that fits a decoder: how well do the chosen columns of a table reconstruct all of them?"""

import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics.base import Critic
from selector.errors import check_at_least, check_positive
from selector.noise import Noise


class LeastSquares(Critic):
    """Variance of all items that the best affine map from the filled slots leaves unexplained, in percent.

    An item is a column of a table, its D features the column's values in D rows. The decoder reads the S chosen values
    of a row and gives all N of them. Its weights are not learned beside the selector: they are solved for, for every
    choice anew, so the decoder always fits the choice that it judges, and the gradient is that of the solved problem
    (variable projection). A column chosen twice adds nothing.

    With centred columns X, slots Z, G = ZZᵀ/D, C = ZXᵀ/D and total variance V = tr XXᵀ/D, the loss is
    100·(1 − tr Cᵀ(G + ridge·V/N·I)⁻¹C / V): mean squared error in percent of the error without any column.

    Args:
        S: number of slots.
        ridge: > 0, in mean variances of an item; without it two equal picks would leave the weights undetermined.
        hidden: random relu units of the slots that the decoder reads beside them: a decoder that is not linear, whose
            last layer is still solved for. They are the same for every run; D should be several times S + hidden.

    Raises:
        InvalidInput: when ``ridge <= 0`` or ``hidden < 0``.

    References:
        Golub, Pereyra, 1973, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
        variables separate"; Balın, Abid, Zou, 2019, "Concrete autoencoders", arXiv 1901.09346 (the question).
    """

    weights: Tensor
    biases: Tensor

    def __init__(self, S: int, ridge: float = 1e-3, hidden: int = 0) -> None:
        super().__init__()
        check_positive(ridge=ridge)
        check_at_least(0, hidden=hidden)
        self.ridge = ridge
        noise = Noise(0, "least squares")
        self.register_buffer("weights", noise.normal([hidden, S]) / S**0.5)
        self.register_buffer("biases", noise.normal([hidden, 1]))

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        N, D = batch.items.shape[-2:]
        items = batch.items - batch.items.mean(-1, keepdim=True)
        total = items.square().mean(-1).sum(-1)
        # The smallest positive number keeps lists of constant columns (nothing to explain) from dividing by zero.
        total = total.clamp(min=torch.finfo(items.dtype).tiny ** 0.5)
        unit = (total / N)[..., None, None]  # the mean variance of an item
        inputs = self._inputs(slots - slots.mean(-1, keepdim=True), unit.sqrt())
        ridge = self.ridge * unit * torch.eye(inputs.shape[-2], dtype=slots.dtype, device=slots.device)
        cross = inputs @ items.transpose(-1, -2) / D  # [Q, *, F, N]
        explained = cross * torch.linalg.solve(inputs @ inputs.transpose(-1, -2) / D + ridge, cross)
        unexplained: Tensor = 100 * (1 - explained.sum((-1, -2)) / total)
        return unexplained

    def _inputs(self, slots: Tensor, scale: Tensor) -> Tensor:
        """What the solved layer reads, centred: the slots and the hidden units, ``[*, S, D] -> [*, F, D]``."""
        if not len(self.weights):
            return slots
        hidden = torch.relu(self.weights.to(slots.dtype) @ slots + scale * self.biases.to(slots.dtype))
        return torch.cat([slots, hidden - hidden.mean(-1, keepdim=True)], -2)
