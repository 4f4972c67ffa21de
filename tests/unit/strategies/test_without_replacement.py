"""Selections without replacement: distinct items, the sequential law, the formula of the gradient."""

from itertools import permutations

import pytest
import torch

from selector.noise import Noise, Replay
from selector.strategies import STGumbelSequential
from tests.support import quadratic

S, N, D, TAU = 3, 5, 2, 0.7


def test_no_item_is_picked_twice_and_masked_items_never() -> None:
    logits = Noise(0, "logits").normal([500, S, N]) * 3
    logits[..., 0] = -torch.inf
    index = STGumbelSequential().select(logits, TAU, Noise()).index
    assert index is not None
    ordered = index.sort(-1).values
    assert (ordered[..., 1:] != ordered[..., :-1]).all()
    assert (index != 0).all()


@pytest.mark.parametrize("masked", [False, True])
def test_picks_follow_the_softmax_over_the_items_that_are_left(masked: bool) -> None:
    """Chi-squared of 40,000 seeded draws over the ordered pairs of 4 items.

    The statistic has 11 degrees of freedom (5 masked); above its mean by 6 of its standard deviations for about 1 seed
    in 10^5.
    """
    draws = 40_000
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5], [0.3, 0.0, 2.0, -0.5]])
    if masked:
        logits[:, 0] = -torch.inf
    index = STGumbelSequential().select(logits.expand(draws, 2, 4), TAU, Noise(0, "strategy")).index
    assert index is not None
    first, second = logits.double().exp()
    statistic, outcomes = 0.0, 0
    for a, b in permutations(range(4), 2):
        free = second.sum() - second[a]
        expected = draws * float(first[a] / first.sum() * second[b] / free)
        count = int(((index[0, :, 0] == a) & (index[0, :, 1] == b)).sum())
        if expected == 0:
            assert count == 0
            continue
        statistic += (count - expected) ** 2 / expected
        outcomes += 1
    freedom = outcomes - 1
    assert statistic <= freedom + 6 * (2 * freedom) ** 0.5


def test_the_gradient_is_that_of_the_softmax_over_the_items_that_are_left() -> None:
    source = Noise(0, "inputs")
    logits = source.normal([4, S, N], dtype=torch.float64).requires_grad_()
    items = source.normal([4, N, D], dtype=torch.float64)
    tape = Replay(Noise(1, "strategy"))
    selection = STGumbelSequential().select(logits, TAU, tape)
    (grad,) = torch.autograd.grad(quadratic(selection.pick(items)).sum(), logits)

    scores = logits.detach() + tape.rewind().gumbel(logits.shape, dtype=logits.dtype)
    for b in range(4):
        free, picks = set(range(N)), []
        weights = torch.zeros(S, N, dtype=torch.float64)
        for s in range(S):
            kept = sorted(free)
            weights[s, kept] = (scores[b, s, kept] / TAU).softmax(-1)
            picks.append(max(kept, key=lambda i: float(scores[b, s, i])))
            free.remove(picks[-1])
        z = torch.nn.functional.one_hot(torch.tensor(picks), N).double().requires_grad_()
        (v,) = torch.autograd.grad(quadratic((z @ items[b]).unsqueeze(0)).sum(), z)
        expected = weights * (v - (weights * v).sum(-1, keepdim=True)) / TAU
        torch.testing.assert_close(grad[b], expected, rtol=1e-12, atol=1e-12)


def test_what_leaves_a_slot_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="3 slots cannot get different items out of 2"):
        STGumbelSequential().select(torch.zeros(3, 2), TAU, Noise())
    logits = torch.zeros(4, 2, 3)
    logits[2, :, 1:] = -torch.inf
    with pytest.raises(ValueError, match="some slot has no item left"):
        STGumbelSequential().select(logits, TAU, Noise())
