"""Search with the critic, against brute force and against counting."""

from itertools import product

import pytest
import torch
from torch import Tensor

import selector.search
from selector.batch import Batch
from selector.choices import judge, random_choices
from selector.critics import Critic, Diversity, SumTarget, TargetValue, Teacher
from selector.errors import InvalidInput
from selector.noise import Noise
from selector.oracle import find_oracle
from selector.search import Search, coordinate_search

N, S, D, V = 4, 3, 2, 6
CRITICS: dict[str, Critic] = {
    "target_value": TargetValue(0.5),
    "sum_target": SumTarget(1.2),
    "teacher": Teacher(S, D),
    "diversity": Diversity(radius=0.3),
}
every_critic = pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS.keys())
widths = pytest.mark.parametrize("width", [1, 3])


def lists(mask: Tensor | None = None) -> Batch:
    return Batch(Noise(0, "test").uniform([V, N, D], dtype=torch.float64), mask)


def start(K: int) -> Tensor:
    return Noise(1, "start").integers(N, [K, V, S])


@every_critic
@widths
def test_a_search_ends_where_no_single_change_helps(critic: Critic, width: int) -> None:
    batch = lists()
    index, loss = coordinate_search(critic, batch, start(5), width=width)
    assert (loss <= judge(critic, batch, start(5))).all()
    torch.testing.assert_close(loss, judge(critic, batch, index))
    for s, n in product(range(S), range(N)):
        changed = index.clone()
        changed[..., s] = n
        assert (judge(critic, batch, changed) >= loss - 1e-12).all()


@every_critic
@widths
def test_a_search_over_parts_of_the_items_is_the_same(
    critic: Critic, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = coordinate_search(critic, lists(), start(5), width=width)
    monkeypatch.setattr(selector.search, "CHUNK", 2 * 5 * width * V * S * D)  # two items at a time
    parts = coordinate_search(critic, lists(), start(5), width=width)
    assert torch.equal(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-12, atol=1e-12)


@every_critic
@pytest.mark.parametrize(
    ("mask", "distinct"),
    [("none", False), ("list", False), ("slot", False), ("none", True), ("list", True)],
)
def test_a_search_that_keeps_every_choice_finds_the_best_allowed_one(critic: Critic, mask: str, distinct: bool) -> None:
    """Only if no choice is kept twice: one that is crowds out another."""
    luck = Noise(3, "mask").uniform([V, S if mask == "slot" else 1, N])
    allowed = luck <= luck.kthvalue(S if mask == "list" else 2, dim=-1, keepdim=True).values
    batch = lists(None if mask == "none" else allowed)
    begin = random_choices(batch, S, 2, Noise(2, "start"), distinct)
    index, loss = coordinate_search(critic, batch, begin, width=N**S, sweeps=3, without_replacement=distinct)
    oracle = find_oracle(critic, batch, S, max_enumeration=N**S, without_replacement=distinct)
    torch.testing.assert_close(loss, oracle.loss.expand(2, V), rtol=1e-12, atol=1e-12)
    if distinct:
        assert all(len(set(choice)) == S for choice in index.flatten(0, 1).tolist())
    if batch.mask is not None:
        assert batch.mask.expand(V, S, N)[torch.arange(V)[:, None], torch.arange(S), index].all()


def test_of_equal_width_some_lists_need_more_than_one_choice() -> None:
    """Otherwise the width would be an option that does nothing."""
    batch, critic = Batch(Noise(0, "test").normal([256, 8, 4])), Teacher(4, 4)
    begin = random_choices(batch, 4, 1, Noise(2, "start"), False)
    narrow, wide = (coordinate_search(critic, batch, begin, width=width)[1].mean() for width in (1, 4))
    assert wide < narrow - 0.05


def test_slots_are_changed_in_the_order_that_is_asked_for() -> None:
    """Turning the slots around is the same as turning around the critic's."""
    batch, critic, begin = lists(), CRITICS["teacher"], start(1)
    turned = Teacher(S, D)
    turned.w1 = turned.w1.unflatten(0, (S, D)).flip(0).flatten(0, 1)
    forth = torch.arange(S).expand(V, S)
    one = coordinate_search(critic, batch, begin, sweeps=1, order=forth.flip(-1))[0]
    other = coordinate_search(turned, batch, begin.flip(-1), sweeps=1, order=forth)[0]
    assert torch.equal(one, other.flip(-1))
    assert not torch.equal(one, coordinate_search(critic, batch, begin, sweeps=1, order=forth)[0])


def test_the_network_is_trusted_most_where_it_is_most_sure() -> None:
    """Two slots must agree on a sum, either can make up for the other: the one with the smaller margin moves."""
    items = torch.tensor([[[0.0], [1.0], [3.0]]]).expand(2, 3, 1)
    logits = torch.tensor([[[9.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])
    found = Search(sweeps=1, width=1)(SumTarget(3.0), Batch(items), logits.argmax(-1), logits)
    assert found.tolist() == [[0, 2], [2, 0]]


class Counted(Teacher):
    """Counts the losses of the first list."""

    asked = 0

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        self.asked += len(slots)
        return super().forward(slots, batch)


@pytest.mark.parametrize(("sweeps", "width"), [(1, 1), (2, 1), (1, 3), (2, 64)])
def test_queries_are_counted(sweeps: int, width: int) -> None:
    critic, search = Counted(S, D), Search(sweeps, width)
    logits = Noise(4, "logits").normal([V, S, N])
    search(critic, lists(), logits.argmax(-1), logits)
    assert critic.asked == search.queries(S, N)


@pytest.mark.parametrize(("key", "values"), [("sweeps", (0, 4)), ("width", (2, 0))])
def test_bad_values_are_refused(key: str, values: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match=f"{key}=0"):
        Search(*values)


class HalfBlind(Teacher):
    """Is NaN for choices whose first value is above a half, as a critic may be outside of what it was made for."""

    def forward(self, slots: Tensor, batch: Batch) -> Tensor:
        return super().forward(slots, batch).masked_fill(slots[..., 0, 0] > 0.5, float("nan"))


@widths
def test_a_choice_that_cannot_be_judged_is_never_better(width: int) -> None:
    batch, critic = lists(), HalfBlind(S, D)
    begin = batch.items[..., 0].argmin(-1).view(1, V, 1).expand(1, V, S)
    before = judge(critic, batch, begin)
    assert before.isfinite().any()
    index, loss = coordinate_search(critic, batch, begin, width=width)
    after = judge(critic, batch, index)
    assert after[before.isfinite()].isfinite().all()
    assert (after <= before)[before.isfinite()].all()
    torch.testing.assert_close(loss[before.isfinite()], after[before.isfinite()])
