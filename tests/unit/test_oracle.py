"""The oracle against brute force in plain Python."""

from itertools import product

import pytest
import torch
from torch import Tensor

import selector.oracle
from selector.batch import Batch
from selector.choices import judge, random_choices
from selector.critics import Critic, Diversity, SlotTargets, SumTarget, TargetValue, Teacher
from selector.noise import Noise
from selector.oracle import find_oracle, oracle_kind

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


def brute_force(
    critic: Critic, items: Tensor, mask: Tensor | None = None, distinct: bool = False
) -> dict[tuple[int, ...], float]:
    """The loss of every allowed choice for one list ``[N, D]`` with its mask ``[1 or S, N]``."""
    allowed = [[True] * N] * S if mask is None else mask.expand(S, N).tolist()
    return {
        choice: float(critic(torch.stack([items[i] for i in choice]).unsqueeze(0), Batch(items)))
        for choice in product(range(N), repeat=S)
        if all(allowed[s][i] for s, i in enumerate(choice)) and (not distinct or len(set(choice)) == S)
    }


def masks(per: str) -> Tensor:
    """``[V, 1 or S, N]``; S items are always allowed per list, at least one per slot."""
    luck = Noise(3, "mask").uniform([V, 1 if per == "list" else S, N])
    return luck <= luck.kthvalue(S if per == "list" else 2, dim=-1, keepdim=True).values


MASKED = [
    # mask, whether an item may be chosen for one slot only
    ("list", False),
    ("slot", False),
    ("none", True),
    ("list", True),
]


@every_critic
@pytest.mark.parametrize(("per", "distinct"), MASKED)
def test_exact_oracles_equal_brute_force_over_what_is_allowed(critic: Critic, per: str, distinct: bool) -> None:
    mask = None if per == "none" else masks(per)
    batch = Batch(lists().items, mask)
    oracle = find_oracle(critic, batch, S, max_enumeration=N**S, without_replacement=distinct)
    assert oracle.exact
    assert oracle.kind == oracle_kind(critic, N, S, N**S, distinct)
    for v in range(V):
        losses = brute_force(critic, batch.items[v], None if mask is None else mask[v], distinct)
        best, chosen = min(losses.values()), tuple(oracle.index[v].tolist())
        assert chosen in losses, "the oracle's choice is not allowed"
        assert float(oracle.loss[v]) == pytest.approx(best, rel=1e-12)
        assert losses[chosen] == pytest.approx(best, rel=1e-12)
        assert float(oracle.random_loss[v]) == pytest.approx(sum(losses.values()) / len(losses), rel=1e-12)


@every_critic
@pytest.mark.parametrize(("per", "distinct"), MASKED)
def test_the_search_stays_within_what_is_allowed(critic: Critic, per: str, distinct: bool) -> None:
    mask = None if per == "none" else masks(per)
    batch = Batch(lists().items, mask)
    found = selector.oracle._searched(critic, batch, S, restarts=16, sweeps=10, without_replacement=distinct)
    solved = 0
    for v in range(V):
        losses = brute_force(critic, batch.items[v], None if mask is None else mask[v], distinct)
        chosen = tuple(found.index[v].tolist())
        assert chosen in losses
        assert float(found.loss[v]) == pytest.approx(losses[chosen], rel=1e-12)
        solved += losses[chosen] <= min(losses.values()) + 1e-9
        # The mean of 128 random choices: within 6 standard errors, seeded; fails for 1 seed in 10^8.
        mean = sum(losses.values()) / len(losses)
        variance = sum((loss - mean) ** 2 for loss in losses.values()) / len(losses)
        assert abs(float(found.random_loss[v]) - mean) <= 6 * (variance / 128) ** 0.5 + 1e-12
    assert solved >= V / 2


@pytest.mark.parametrize(("per", "distinct"), MASKED)
def test_random_choices_are_allowed_and_every_allowed_choice_is_as_likely(per: str, distinct: bool) -> None:
    """Chi-squared of 4,000 seeded choices: above its mean by 6 of its standard deviations for 1 seed in 10^6."""
    mask = None if per == "none" else masks(per)
    batch, draws = Batch(lists().items, mask), 4000
    index = random_choices(batch, S, draws, Noise(0, "oracle"), distinct)
    for v in range(V):
        allowed = brute_force(CRITICS["sum_target"], batch.items[v], None if mask is None else mask[v], distinct)
        counts = dict.fromkeys(allowed, 0)
        for choice in index[:, v].tolist():
            counts[tuple(choice)] += 1  # a KeyError is a choice that is not allowed
        expected, freedom = draws / len(counts), len(counts) - 1
        statistic = sum((count - expected) ** 2 / expected for count in counts.values())
        assert statistic <= freedom + 6 * (2 * freedom) ** 0.5


def test_without_replacement_the_kind_of_a_separable_critic_is_assignment() -> None:
    assert oracle_kind(TargetValue(), 1000, 1000, 1, True) == "assignment"
    assert oracle_kind(SumTarget(), 4, 3, 64, True) == "enumerated"
    assert oracle_kind(SumTarget(), 4, 3, 23, True) == "best-known", "4·3·2 = 24 choices without replacement"
    assert oracle_kind(SumTarget(), 4, 3, 24, True) == "enumerated"


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
    monkeypatch.setattr(selector.oracle, "CHUNK", N**S * S * D)  # one list at a time
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


def test_with_as_many_slots_as_items_the_search_trades_them() -> None:
    """No slot can move alone there: without trades the search would end where it began."""
    batch = Batch(Noise(4).normal([6, 5, 2]))
    critic = Teacher(S=5, D=2, seed=3)
    exact = find_oracle(critic, batch, 5, max_enumeration=120, without_replacement=True)
    found = find_oracle(critic, batch, 5, max_enumeration=119, without_replacement=True)
    assert (exact.kind, found.kind) == ("enumerated", "best-known")
    assert (found.index.sort(-1).values == torch.arange(5)).all()
    regret = (found.loss - exact.loss).mean() / (exact.random_loss - exact.loss).mean()
    assert 0 <= regret < 0.02
