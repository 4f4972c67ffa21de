"""Problems: which items are eligible, and how a choice is made."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from selector.batch import Batch, check_mask
from selector.critics import SumTarget, TargetValue
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.noise import Noise, SeedNoise
from selector.problems import Problem
from selector.strategies import STGumbel, STGumbelSequential
from selector.training import check_fit
from tests.support import small_network

N, S = 6, 3


def problem(**options: Any) -> Problem:
    return Problem(Uniform(), TargetValue(0.5), N=N, S=S, **options)


def test_without_eligibility_there_is_no_mask() -> None:
    assert problem().sample((4,), Noise()).mask is None


@pytest.mark.parametrize(("per", "slots"), [("list", 1), ("slot", S)])
@pytest.mark.parametrize("eligible", [1e-9, 0.3, 0.8])
def test_every_slot_keeps_an_item_and_the_share_of_allowed_items_is_as_asked(
    per: str, slots: int, eligible: float
) -> None:
    lists = 4000
    mask = problem(eligible=eligible, eligible_per=per).sample((lists,), Noise(0, "items")).mask
    assert mask is not None
    assert mask.shape == (lists, slots, N)
    check_mask(mask)
    # The luckiest item is always allowed: N·p + P(none of N) are expected.
    expected = (N * eligible + (1 - eligible) ** N) / N
    error = 0.5 / (lists * slots * N) ** 0.5  # the largest a share's standard error can be
    assert abs(float(mask.double().mean()) - expected) < 6 * error  # seeded; passes but for 1 seed in 10^8


def test_without_replacement_every_list_keeps_as_many_items_as_slots() -> None:
    made = problem(eligible=0.1, without_replacement=True)
    mask = made.sample((500,), Noise(0, "items")).mask
    assert mask is not None
    counts = mask.sum(-1)
    assert int(counts.min()) == S
    assert int(counts.max()) > S


def test_masks_per_slot_differ_between_slots_and_a_seed_draws_its_own_beside_others() -> None:
    made = problem(eligible=0.5, eligible_per="slot")
    together = made.sample((3, 20), SeedNoise([7, 0, 1], "items"))
    alone = made.sample((1, 20), SeedNoise([0], "items"))
    assert together.mask is not None
    assert alone.mask is not None
    assert torch.equal(together.mask[1:2], alone.mask)
    assert torch.equal(together.items[1:2], alone.items)
    assert (together.mask[..., 0, :] != together.mask[..., 1, :]).any()


def test_the_choice_is_the_argmax_or_the_best_assignment() -> None:
    logits = torch.tensor([[5.0, 4.0, 0.0], [5.0, 1.0, 0.0]])  # both slots like item 0; slot 1 has more to lose
    plain = Problem(Uniform(), TargetValue(), N=3, S=2)
    assert plain.choose(logits).tolist() == [0, 0]
    distinct = Problem(Uniform(), TargetValue(), N=3, S=2, without_replacement=True)
    assert distinct.choose(logits).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"eligible": 0.0}, "eligible"),
        ({"eligible": 1.5}, "eligible"),
        ({"eligible": float("nan")}, "eligible"),
        ({"eligible_per": "item"}, "eligible_per"),
        ({"without_replacement": True, "S": N + 1}, "S"),
        ({"without_replacement": True, "eligible": 0.5, "eligible_per": "slot"}, "eligible_per"),
        ({"max_enumeration": 0}, "max_enumeration"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Problem(Uniform(), TargetValue(), **{"N": N, "S": S, **options})
    assert refused.value.key == key


def test_other_strategies_are_refused_without_replacement() -> None:
    distinct = Problem(Uniform(), TargetValue(), N=4, S=2, without_replacement=True)
    check_fit(distinct, small_network(), STGumbelSequential())
    with pytest.raises(InvalidInput, match=r"strategy=STGumbel: draws with replacement"):
        check_fit(distinct, small_network(), STGumbel())


def test_the_oracle_of_a_problem_keeps_the_leading_dims() -> None:
    for critic in (TargetValue(0.5), SumTarget(1.0)):
        made = Problem(Uniform(), critic, N=N, S=S, eligible=0.5, eligible_per="slot")
        oracle = made.oracle(made.sample((2, 4), Noise()))
        assert oracle.loss.shape == (2, 4)
        assert oracle.index.shape == (2, 4, S)
        assert oracle.kind == made.oracle_kind


def test_a_context_is_drawn_per_list_and_leaves_the_items_as_they_were() -> None:
    batch = problem(C=2).sample((3, 5), SeedNoise([7, 0, 1], "items"))
    assert batch.context is not None
    assert batch.context.shape == (3, 5, 2)
    assert len(batch.context.flatten().unique()) == 30
    assert torch.equal(batch.items, problem().sample((3, 5), SeedNoise([7, 0, 1], "items")).items)
    alone = problem(C=2).sample((1, 5), SeedNoise([0], "items")).context
    assert alone is not None
    assert torch.equal(batch.context[1:2], alone)


def test_a_source_brings_its_own_context_of_the_stated_size() -> None:
    class Known(Uniform):
        def sample(self, shape: Sequence[int], noise: Noise) -> Batch:
            return Batch(super().sample(shape, noise).items, context=torch.ones(*shape[:-2], 3))

    batch = Problem(Known(), TargetValue(0.5), N=N, S=S, C=3).sample((4,), Noise())
    assert batch.context is not None
    assert batch.context.tolist() == [[1.0] * 3] * 4
    with pytest.raises(InvalidInput, match=r"C=2.*must be 3"):
        Problem(Known(), TargetValue(0.5), N=N, S=S, C=2).sample((4,), Noise())
