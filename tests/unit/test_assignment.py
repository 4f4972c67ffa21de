"""The vectorised assignment against scipy's."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from selector.assignment import assign
from selector.noise import Noise


def scipy_best(scores: Tensor) -> float:
    """The largest sum of scores of one problem ``[S, N]``."""
    rows, columns = linear_sum_assignment(scores.double().numpy(), maximize=True)
    return float(scores.double()[torch.as_tensor(rows), torch.as_tensor(columns)].sum())


def reached(scores: Tensor, index: Tensor) -> Tensor:
    return scores.gather(-1, index.unsqueeze(-1)).squeeze(-1).sum(-1)


@pytest.mark.parametrize(("S", "N"), [(1, 1), (1, 7), (3, 3), (3, 5), (6, 6), (4, 20)])
def test_the_sum_of_scores_is_scipys(S: int, N: int) -> None:
    scores = Noise(S * N, "scores").normal([50, S, N], dtype=torch.float64)
    index = assign(scores)
    assert index.shape == (50, S)
    assert index.dtype == torch.int64
    for one, picks in zip(scores, index, strict=True):
        assert len(set(picks.tolist())) == S
        assert float(reached(one, picks)) == pytest.approx(scipy_best(one), rel=1e-12)


def test_where_the_best_is_unique_the_items_are_scipys() -> None:
    scores = Noise(0, "scores").normal([200, 4, 6], dtype=torch.float64)  # no two sums of normal numbers are equal
    for one, picks in zip(scores, assign(scores), strict=True):
        assert picks.tolist() == linear_sum_assignment(one.numpy(), maximize=True)[1].tolist()


def test_forbidden_pairs_are_never_chosen() -> None:
    noise = Noise(0, "scores")
    scores = noise.normal([100, 4, 5], dtype=torch.float64)
    forbidden = noise.uniform([100, 4, 5]) < 0.4
    forbidden[:, range(4), range(4)] = False  # some assignment is left
    scores = scores.masked_fill(forbidden, -torch.inf)
    index = assign(scores)
    for one, picks in zip(scores, index, strict=True):
        assert len(set(picks.tolist())) == 4
        assert float(reached(one, picks)) == pytest.approx(scipy_best(one), rel=1e-12)
    assert not forbidden.gather(-1, index.unsqueeze(-1)).any()


def test_forced_assignments_are_found() -> None:
    """Triangular: only the diagonal is left, however bad it is."""
    scores = torch.full((5, 5), 100.0).triu(1) + torch.arange(25.0).view(5, 5).neg()
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    assert assign(scores).tolist() == [0, 1, 2, 3, 4]


def test_problems_without_an_assignment_are_refused() -> None:
    scores = torch.zeros(3, 2, 4)
    scores[1, :, 1:] = -torch.inf  # both slots of one problem are left with item 0
    with pytest.raises(ValueError, match="no assignment is allowed"):
        assign(scores)
    with pytest.raises(ValueError, match="3 slots cannot get different items out of 2"):
        assign(torch.zeros(3, 2))


def test_any_leading_dims_and_half_precision() -> None:
    scores = Noise(0, "scores").normal([6, 3, 4])
    flat = assign(scores)
    assert torch.equal(assign(scores.view(2, 1, 3, 3, 4)), flat.view(2, 1, 3, 3))
    assert torch.equal(assign(scores[0]), flat[0])
    half = scores.to(torch.bfloat16)
    assert torch.equal(assign(half), assign(half.double()))
    assert assign(torch.zeros(0, 3, 4)).shape == (0, 3)


def test_ties_and_large_scores_give_a_valid_assignment() -> None:
    tied = torch.zeros(2, 4, 4)
    assert sorted(assign(tied)[0].tolist()) == [0, 1, 2, 3]
    scores = Noise(0, "scores").normal([20, 4, 6], dtype=torch.float64) * 1e6
    for one, picks in zip(scores, assign(scores), strict=True):
        assert float(reached(one, picks)) == pytest.approx(scipy_best(one), rel=1e-9)
