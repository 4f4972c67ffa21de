"""Decoders fitted on chosen columns: how every method is measured, whatever it was trained with.

Shape legend: M choices, fitted side by side · S chosen columns · N columns · rows of the table.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selector.items.columns import Table
from selector.networks.base import StackedMLP
from selector.noise import SeedNoise

_ROWS = 256  # of a batch


def linear_errors(table: Table, choices: Tensor) -> Tensor:
    """Held-out mean squared error of the affine decoder that fits the training rows best: ``[M, S] -> [M]``.

    Exact, so nothing in it is random. A column chosen twice is used once.
    """

    def features(rows: Tensor) -> Tensor:
        picked = rows.double()[:, choices].transpose(0, 1)  # [M, rows, S]
        return torch.cat([picked, torch.ones_like(picked[..., :1])], -1)

    # The pseudo-inverse copes with columns that are chosen twice, or constant.
    weights = torch.linalg.pinv(features(table.train), rtol=1e-9) @ table.train.double()
    errors: Tensor = (features(table.test) @ weights - table.test).square().mean((-1, -2))
    return errors


class MLPDecoders:
    """M decoders with one hidden layer, trained side by side on batches of training rows by Adam.

    The learning rate falls linearly to zero, so that the last weights need no averaging.

    Args:
        table: the data.
        seeds: M different numbers: initial weights and batches of every decoder.
        inputs: what a decoder reads, S.
        width: hidden units.
        lr: first learning rate.
    """

    def __init__(self, table: Table, seeds: Sequence[int], inputs: int, width: int = 128, lr: float = 4e-3) -> None:
        self.table, self.lr = table, lr
        N, M = table.train.shape[1], len(seeds)
        noise = SeedNoise(seeds, "decoder")
        self.rows = SeedNoise(seeds, "decoder rows")
        self.net = StackedMLP(noise, M, inputs, N, width=width, depth=1, activation="relu", norm="none")
        with torch.no_grad():
            assert self.net.last.bias is not None
            self.net.last.bias.copy_(table.train.mean(0).expand_as(self.net.last.bias))

    def batch(self) -> Tensor:
        """Training rows ``[M, rows, N]``, drawn with replacement."""
        M = len(self.net.last.weight)
        return self.table.train[self.rows.integers(len(self.table.train), [M, _ROWS])]

    def loss(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Mean squared error of every decoder: ``[M, rows, S], [M, rows, N] -> [M]``."""
        errors: Tensor = (self.net(inputs) - rows).square().mean((-1, -2))
        return errors


def fit_mlp(table: Table, choices: Tensor, seeds: Sequence[int], steps: int) -> Callable[[Tensor], Tensor]:
    """Train a decoder on each choice.

    Args:
        table: the data.
        choices: ``[M, S]``, columns.
        seeds: M different numbers, one for every decoder.
        steps: optimizer steps.

    Returns:
        Reconstructs rows: ``[M, rows, N] -> [M, rows, N]``, reading nothing but the chosen columns.
    """

    def picked(rows: Tensor) -> Tensor:
        return rows.gather(-1, choices.unsqueeze(1).expand(-1, rows.shape[1], -1))

    decoders = MLPDecoders(table, seeds, choices.shape[1])
    optimizer = torch.optim.Adam(decoders.net.parameters(), lr=decoders.lr, foreach=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = decoders.lr * (1 - step / steps)
        rows = decoders.batch()
        optimizer.zero_grad()
        decoders.loss(picked(rows), rows).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return lambda rows: decoders.net(picked(rows))


def mlp_errors(table: Table, choices: Tensor, seeds: Sequence[int], steps: int) -> Tensor:
    """Held-out mean squared error of a decoder trained on each choice, see :func:`fit_mlp`: ``[M, S] -> [M]``."""
    decode = fit_mlp(table, choices, seeds, steps)
    with torch.no_grad():
        rows = table.test.expand(len(choices), -1, -1)
        errors: Tensor = (decode(rows) - rows).square().mean((-1, -2)).double()
    return errors
