"""The oracle against brute force in plain Python."""

from itertools import product

import pytest
import torch
from torch import Tensor

import selector.oracle
from selector.batch import Batch
from selector.critics import Critic, Diversity, SlotTargets, SumTarget, TargetValue, Teacher
from selector.noise import Noise
from selector.oracle import find_oracle, judge, oracle_kind

N, S, D, V = 4, 3, 2, 6
CRITICS: dict[str, Critic] = {
    "target_value": TargetValue(0.5),
    "slot_targets": SlotTargets(S, low=0.1, high=0.9),
    "sum_target": SumTarget(1.2),
    "teacher": Teacher(S, D),
    "diversity": Diversity(radius=0.3),
}
every_critic = pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS.keys())


def lists(dtype: torch.dtype = torch.float64) -> Batch:
    return Batch(Noise(0, "test").uniform([V, N, D], dtype=dtype))


def brute_force(critic: Critic, items: Tensor) -> dict[tuple[int, ...], float]:
    """The loss of every choice for one list ``[N, D]``."""
    return {
        choice: float(critic(torch.stack([items[i] for i in choice]).unsqueeze(0), Batch(items)))
        for choice in product(range(N), repeat=S)
    }


@every_critic
def test_exact_oracles_equal_brute_force(critic: Critic) -> None:
    batch = lists()
    oracle = find_oracle(critic, batch, S, max_enumeration=N**S)
    assert oracle.exact
    for v in range(V):
        losses = brute_force(critic, batch.items[v])
        best = min(losses.values())
        assert float(oracle.loss[v]) == pytest.approx(best, rel=1e-12)
        assert losses[tuple(oracle.index[v].tolist())] == pytest.approx(best, rel=1e-12)
        assert float(oracle.random_loss[v]) == pytest.approx(sum(losses.values()) / len(losses), rel=1e-12)


def test_the_kind_depends_on_the_critic_and_on_the_number_of_choices() -> None:
    assert oracle_kind(TargetValue(), 1000, 1000, 1) == "separable"
    assert oracle_kind(SumTarget(), 4, 3, 64) == "enumerated"
    assert oracle_kind(SumTarget(), 4, 3, 63) == "best-known"


@every_critic
def test_the_search_never_beats_brute_force_and_reports_the_loss_of_its_choice(critic: Critic) -> None:
    batch = lists()
    found = selector.oracle._searched(critic, batch, S, restarts=8, sweeps=10, without_replacement=False)
    assert found.kind == "best-known"
    assert not found.exact
    assert not found.unique.any()
    torch.testing.assert_close(judge(critic, batch, found.index.unsqueeze(0))[0], found.loss, rtol=1e-12, atol=1e-12)
    exact = torch.tensor([min(brute_force(critic, items).values()) for items in batch.items])
    assert (found.loss >= exact - 1e-6).all()
    # 24 coordinate descents over 64 choices: most lists are solved.
    assert torch.isclose(found.loss.float(), exact, atol=1e-5).double().mean() >= 0.5


def test_the_search_is_a_coordinatewise_optimum() -> None:
    batch, critic = lists(), CRITICS["sum_target"]
    found = selector.oracle._searched(critic, batch, S, restarts=2, sweeps=20, without_replacement=False)
    for s, item in product(range(S), range(N)):
        other = found.index.clone()
        other[:, s] = item
        assert (judge(critic, batch, other.unsqueeze(0))[0] >= found.loss - 1e-12).all()


def test_the_search_is_the_same_at_every_call() -> None:
    a, b = (selector.oracle._searched(CRITICS["teacher"], lists(), S, 4, 5, False) for _ in range(2))
    assert torch.equal(a.index, b.index)
    assert torch.equal(a.random_loss, b.random_loss)


def test_ties_are_not_unique() -> None:
    items = torch.tensor([[[1.0], [4.0], [6.0]], [[1.0], [4.0], [9.0]]])  # distances to 5: 4 1 1, 4 1 4
    separable = find_oracle(TargetValue(5.0), Batch(items), 2, max_enumeration=1)
    assert separable.unique.tolist() == [[False, False], [True, True]]
    total = find_oracle(SumTarget(2.0), Batch(items), 2, max_enumeration=9)
    assert total.index.tolist() == [[0, 0], [0, 0]]
    assert total.unique.all()
    swapped = find_oracle(SumTarget(5.0), Batch(items), 2, max_enumeration=9)  # 1 + 4 or 4 + 1
    assert not swapped.unique.any()


@pytest.mark.parametrize("critic", [TargetValue(), SumTarget()])
def test_a_single_item_is_always_the_best_choice(critic: Critic) -> None:
    oracle = find_oracle(critic, Batch(torch.ones(3, 1, 1)), 2, max_enumeration=10)
    assert oracle.index.tolist() == [[0, 0]] * 3
    assert oracle.unique.all()
    torch.testing.assert_close(oracle.loss, oracle.random_loss)


@every_critic
def test_small_chunks_give_the_same_oracle(critic: Critic, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_oracle(critic, lists(), S, max_enumeration=N**S)
    monkeypatch.setattr(selector.oracle, "_CHUNK", N**S * S * D)  # one list at a time
    parts = find_oracle(critic, lists(), S, max_enumeration=N**S)
    assert torch.equal(parts.index, whole.index)
    assert torch.equal(parts.unique, whole.unique)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.random_loss, whole.random_loss, rtol=1e-12, atol=1e-12)


def test_reshape_gives_back_the_leading_dims() -> None:
    oracle = find_oracle(TargetValue(), lists(), S, max_enumeration=1).reshape(2, 3)
    assert oracle.loss.shape == oracle.random_loss.shape == (2, 3)
    assert oracle.index.shape == oracle.unique.shape == (2, 3, S)
    assert oracle.kind == "separable"
