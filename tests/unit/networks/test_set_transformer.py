"""What sets the set_transformer apart from other networks; the contract of all is in tests/conformance.

Shape legend: R seeds · B batch · S slots · N items · D features per item.
"""

import pytest
import torch

from selector import fit
from selector.batch import Batch
from selector.critics import SumTarget
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.networks import SetTransformer
from selector.noise import Noise
from selector.optimizer import Adam
from selector.problems import Problem
from selector.strategies import LocalExpectation


def batch(N: int = 5, S: int = 3) -> Batch:
    items = Noise(0, "test").uniform([1, 4, N, 2]).mul_(10)
    return Batch(items, torch.ones(1, 4, S, N, dtype=torch.bool))


def test_what_a_slot_may_not_choose_it_does_not_read_but_another_slot_may() -> None:
    """Item 0 is for slot 2 alone. Changing it reaches the other slots only by way of slot 2: after a second block."""
    lists = batch()
    assert lists.mask is not None
    lists.mask[:, :, :2, 0] = False
    items = lists.items.clone()
    items[:, :, 0] += 1.0
    for depth, reached in ((1, [False, False, True]), (2, [True, True, True])):
        # One block: slots read items, then each other. To see who read what, the second reading is switched off.
        network = SetTransformer(N=5, S=3, D=2, depth=depth)
        if depth == 1:
            torch.nn.init.zeros_(network.blocks[0].from_slots.weight)
        before, after = network(lists), network(Batch(items, lists.mask))
        changed = (before != after)[..., 1:].flatten(0, 1).any(0).any(-1)
        assert changed.tolist() == reached


def test_inputs_of_another_size_give_other_logits() -> None:
    """Encodings are normalised: without initial biases, twice the items would give the same logits."""
    network, lists = SetTransformer(N=5, S=3, D=2), batch()
    once, twice = network(lists), network(Batch(2 * lists.items, lists.mask))
    assert (once - twice).abs().mean() > 0.1 * once.std()


def test_slots_agree_on_a_sum() -> None:
    """Nothing but the other slots' choices says what a slot must add: 3 slots of 4 items, total 15."""
    problem = Problem(Uniform(0, 10), SumTarget(15.0), N=4, S=3)
    network = SetTransformer(N=4, S=3, width=32, depth=2, heads=4)
    _, result = fit(
        problem, network, LocalExpectation(), steps=400, batch_size=64, val_every=400, optimizer=Adam(lr=3e-3)
    )
    assert result.mean("regret") < 0.1


@pytest.mark.parametrize(
    ("options", "key"), [({"heads": 3}, "heads"), ({"depth": 0}, "depth"), ({"activation": "sin"}, "activation")]
)
def test_bad_options_are_refused(options: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        SetTransformer(N=4, S=2, **options)  # type: ignore[arg-type]
