"""Draws from softmax(l): one by Gumbel-max, several by inverting the distribution function."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selector.noise import Noise
from selector.strategies.base import draw, draw_several

N = 6
LOGITS = torch.tensor([[0.0, 1.0, -2.0, float("-inf"), 3.0, -9.0], [5.0, 5.0, 5.0, float("-inf"), 5.0, 5.0]])


def one(logits: Tensor, noise: Noise, draws: int) -> Tensor:
    return draw(logits.expand(draws, *logits.shape), noise)


@pytest.mark.parametrize("sample", [one, draw_several])
@pytest.mark.parametrize("shift", [0.0, 80.0, -80.0])
def test_items_are_drawn_as_often_as_they_should_be(sample: Callable[..., Tensor], shift: float) -> None:
    """Chi-squared of 20,000 seeded draws: above its mean by 6 of its standard deviations for 1 seed in 10^6."""
    draws = 20_000
    index = sample(LOGITS + shift, Noise(0, "draws"), draws)
    assert index.shape == (draws, 2)
    for row, p in enumerate(LOGITS.double().softmax(-1)):
        counts = torch.bincount(index[:, row], minlength=N).double()
        assert counts[3] == 0, "an item of probability 0 was drawn"
        expected = draws * p
        seen = expected > 0
        chi = float(((counts - expected)[seen].square() / expected[seen]).sum())
        freedom = int(seen.sum()) - 1
        assert chi < freedom + 6 * math.sqrt(2 * freedom)


def test_several_draws_are_independent() -> None:
    """Pairs of two fair items: each of the four with frequency 1/4, within 5 standard deviations."""
    index = draw_several(torch.zeros(10_000, 2), Noise(0, "pairs"), 2)
    pairs = torch.bincount(2 * index[0] + index[1], minlength=4) / 10_000
    assert (pairs - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 10_000)


@pytest.mark.parametrize("N", [1, 2, 4096])
def test_the_first_and_the_last_item_can_be_drawn_and_none_beyond(N: int) -> None:
    """With numbers as close to 0 and 1 as they come."""

    class Ends(Noise):
        def uniform(self, shape, *, draws=None, dtype=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
            ends = torch.tensor([2.0**-54, 1 - 2.0**-53], dtype=torch.float64)
            return ends.view(2, *[1] * len(shape)).expand(2, *shape)

    index = draw_several(Noise(1, "logits").normal([3, N]), Ends(), 2)
    assert index.tolist() == [[0] * 3, [N - 1] * 3]


def test_a_seed_whose_logits_are_nan_draws_an_item_all_the_same() -> None:
    """It is frozen and named after the step; until then nothing may fail, and its neighbours draw what they would."""
    logits = torch.zeros(3, 4, 5)
    whole = draw_several(logits, Noise(0, "nan"), 7)
    logits[1] = torch.nan
    broken = draw_several(logits, Noise(0, "nan"), 7)
    assert ((broken >= 0) & (broken < 5)).all()
    assert torch.equal(broken[:, [0, 2]], whole[:, [0, 2]])
