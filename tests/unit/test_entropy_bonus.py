"""The entropy bonus: its schedule, where it leads, and what it leaves alone."""

import pytest
import torch

from selector import Problem, fit
from selector.critics import TargetValue
from selector.errors import InvalidInput
from selector.items import Fixed
from selector.networks import FreeLogits
from selector.optimizer import Adam
from selector.schedules import EntropyBonus
from selector.strategies import RLOO, Exact
from tests.support import small_network, small_problem

VALUES = [0.0, 1.0, 2.0]


def trained(bonus: EntropyBonus | None) -> torch.Tensor:
    """softmax of free logits that descended the exact expected loss: ``[S, N]``."""
    problem = Problem(Fixed([[v] for v in VALUES]), TargetValue(0.8), N=3, S=2)
    network = FreeLogits(3, 2)
    options = Adam(lr=0.1, schedule="exponential")
    fit(
        problem, network, Exact(separable=True),
        steps=400, batch_size=1, held_out=1, val_every=400, optimizer=options, entropy=bonus,
    )  # fmt: skip
    return network.logits.detach()[0].softmax(-1)


def test_with_a_bonus_the_choice_settles_at_the_gibbs_law_and_without_one_it_collapses() -> None:
    """E[L] − w·H is least at p ∝ exp(−L/w)."""
    w = 0.7
    losses = torch.tensor([(v - 0.8) ** 2 for v in VALUES])
    settled = trained(EntropyBonus(start=w, end=w))
    torch.testing.assert_close(settled, (-losses / w).softmax(-1).expand(2, 3), rtol=0, atol=2e-3)
    assert (trained(None)[:, 1] > 0.99).all()


def test_a_bonus_that_has_ended_leaves_nothing() -> None:
    assert (trained(EntropyBonus(start=0.7, end=0.0, steps=100))[:, 1] > 0.95).all()


def test_the_logged_loss_is_without_the_bonus() -> None:
    def first_loss(bonus: EntropyBonus | None) -> list[float]:
        sizes = {"steps": 1, "batch_size": 8, "val_every": 1, "held_out": 4}
        _, result = fit(small_problem(), small_network((0, 1)), RLOO(), entropy=bonus, **sizes)  # type: ignore[arg-type]
        return result.history.records[-1].values["train/loss"]

    assert first_loss(EntropyBonus(start=50.0, end=50.0)) == first_loss(None)


def test_the_weight_is_linear_and_then_stays() -> None:
    bonus = EntropyBonus(start=1.0, end=0.2, steps=10)
    assert [bonus(step) for step in (0, 5, 10, 1000)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert not bonus.never
    assert not EntropyBonus(start=0.0, end=0.1).never
    assert EntropyBonus().never


@pytest.mark.parametrize(
    ("options", "key"), [({"start": -1.0}, "start"), ({"end": float("inf")}, "end"), ({"steps": 0}, "steps")]
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, float], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        EntropyBonus(**options)  # type: ignore[arg-type]
    assert refused.value.key == key
