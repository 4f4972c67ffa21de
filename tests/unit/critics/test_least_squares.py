"""The critic that fits a decoder, against numpy's least squares."""

import numpy as np
import pytest
import torch

from selector.batch import Batch
from selector.critics import LeastSquares, least_squares
from selector.errors import InvalidInput
from selector.noise import Noise

N, D = 5, 20


def table(*lead: int) -> torch.Tensor:
    return Noise(0, "table").normal([*lead, N, D], dtype=torch.float64) + 3.0


@pytest.mark.parametrize("chosen", [[2], [0, 3], [4, 1, 2]])
def test_the_loss_is_what_least_squares_with_an_intercept_leaves(chosen: list[int]) -> None:
    items = table()
    features = np.column_stack([items[chosen].numpy().T, np.ones(D)])
    weights, *_ = np.linalg.lstsq(features, items.numpy().T, rcond=None)
    left = ((features @ weights - items.numpy().T) ** 2).sum()
    expected = 100 * left / ((items - items.mean(-1, keepdim=True)) ** 2).sum()
    loss = LeastSquares(ridge=1e-9)(items[chosen].unsqueeze(0), Batch(items))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("squares", [False, True])
def test_leading_dims_units_and_ends(squares: bool) -> None:
    items = table(2, 3)
    critic = LeastSquares(squares=squares)
    index = torch.tensor([[0, 1], [2, 2], [3, 4], [1, 1]])
    slots = items[:, :, index].movedim(2, 0)  # [Q, 2, 3, S, D]
    losses = critic(slots, Batch(items))
    assert losses.shape == (4, 2, 3)
    alone = critic(slots[1:2, 0, 2], Batch(items[0, 2]))
    torch.testing.assert_close(losses[1, 0, 2], alone[0])
    torch.testing.assert_close(critic(1000 * slots, Batch(1000 * items)), losses)
    assert float(LeastSquares()(items[None], Batch(items)).max()) < 0.5, "all columns leave next to nothing"
    constant = torch.full((N, D), 2.0)
    assert critic(constant[None, :2], Batch(constant)).isfinite().all()


def test_a_column_chosen_twice_adds_next_to_nothing() -> None:
    items = table()
    once, twice, other = (
        float(LeastSquares()(items[chosen].unsqueeze(0), Batch(items))) for chosen in ([0], [0, 0], [0, 1])
    )
    assert abs(twice - once) < 0.01 * (once - other)


def test_squares_explain_what_a_line_cannot() -> None:
    x = torch.linspace(-1, 1, D, dtype=torch.float64)
    items = torch.stack([x, x.square()])
    critics = [LeastSquares(ridge=1e-6, squares=squares) for squares in (False, True)]
    line, bent = (float(critic(items[None, :1], Batch(items))) for critic in critics)
    assert line == pytest.approx(100 * float(x.square().var() / (x.var() + x.square().var())), rel=1e-3)
    assert bent < 0.001


@pytest.mark.parametrize("squares", [False, True])
def test_gradient_is_that_of_the_solved_problem(squares: bool) -> None:
    items = table()
    critic = LeastSquares(ridge=0.1, squares=squares)
    assert torch.autograd.gradcheck(lambda x: critic(x, Batch(items)), [items[None, :2].clone().requires_grad_()])


def test_queries_judged_in_parts_lose_what_they_lose_together(monkeypatch: pytest.MonkeyPatch) -> None:
    items = table(2)
    index = torch.tensor([[0, 1], [2, 2], [3, 4], [1, 1], [0, 3]])
    slots = items[:, index].movedim(1, 0)  # [Q, 2, S, D]
    together = LeastSquares(squares=True)(slots, Batch(items))
    monkeypatch.setattr(least_squares, "_CHUNK", 2 * slots[0].numel())
    torch.testing.assert_close(LeastSquares(squares=True)(slots, Batch(items)), together)


def test_a_ridge_of_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ridge"):
        LeastSquares(ridge=0.0)
