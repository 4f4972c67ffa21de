"""Each estimator's gradient against its formula, with the noise replayed.

J(p)^T v = p·(v − ⟨p, v⟩); v is the loss's gradient with respect to the one-hot choice or the mixture.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selector.noise import Noise, Replay
from selector.strategies import (
    GumbelSoftmax,
    Softmax,
    STArgmax,
    STGumbel,
    STIdentity,
    Strategy,
    STSampled,
    Supervised,
)
from tests.support import quadratic

S, N, D, TAU = 3, 5, 2, 0.7


def jacobian(p: Tensor, v: Tensor) -> Tensor:
    return p * (v - (p * v).sum(-1, keepdim=True))


def one_hot(scores: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(scores.argmax(-1), N).to(scores.dtype)


# ruff: noqa: ARG005 - every case takes the same arguments
# name -> (strategy, the point z where the loss is taken, where v = dL/dz lands); x logits, g Gumbel noise
CASES: dict[str, tuple[Strategy, Callable[..., Tensor], Callable[..., Tensor]]] = {
    "softmax": (
        Softmax(),
        lambda x, g: (x / TAU).softmax(-1),
        lambda x, g, v: jacobian((x / TAU).softmax(-1), v) / TAU,
    ),
    "gumbel_softmax": (
        GumbelSoftmax(),
        lambda x, g: ((x + g) / TAU).softmax(-1),
        lambda x, g, v: jacobian(((x + g) / TAU).softmax(-1), v) / TAU,
    ),
    "st_identity": (STIdentity(), lambda x, g: one_hot(x), lambda x, g, v: v),
    "st_argmax": (
        STArgmax(),
        lambda x, g: one_hot(x),
        lambda x, g, v: jacobian((x / TAU).softmax(-1), v) / TAU,
    ),
    "st_sampled": (
        STSampled(),
        lambda x, g: one_hot(x + g),
        lambda x, g, v: jacobian((x / TAU).softmax(-1), v) / TAU,
    ),
    "st_gumbel": (
        STGumbel(),
        lambda x, g: one_hot(x + g),
        lambda x, g, v: jacobian(((x + g) / TAU).softmax(-1), v) / TAU,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_the_formula(name: str) -> None:
    strategy, point, land = CASES[name]
    source = Noise(0, "inputs")
    logits = source.normal([4, S, N], dtype=torch.float64).requires_grad_()
    items = source.normal([4, N, D], dtype=torch.float64)
    tape = Replay(Noise(1, "strategy"))
    selection = strategy.select(logits, TAU, tape)
    losses = quadratic(selection.pick(items))
    (grad,) = torch.autograd.grad(strategy.surrogate(selection, losses).sum(), logits)

    logits = logits.detach()
    g = tape.rewind().gumbel(logits.shape, dtype=logits.dtype)
    z = point(logits, g).requires_grad_()
    (v,) = torch.autograd.grad(quadratic((z @ items).unsqueeze(0)).sum(), z)
    torch.testing.assert_close(grad, land(logits, g, v), rtol=1e-12, atol=1e-12)


def test_supervised_is_cross_entropy_whose_value_is_the_loss_exactly() -> None:
    source = Noise(0, "inputs")
    logits = (source.normal([4, S, N]) * 30).requires_grad_()
    target = source.integers(N, [4, S])
    strategy = Supervised()
    selection = strategy.select(logits, TAU, Noise(), target)
    losses = source.normal([1, 4])
    value = strategy.surrogate(selection, losses)
    assert torch.equal(value, losses[0])
    (grad,) = torch.autograd.grad(value.sum(), logits)
    p = (logits.detach() / TAU).softmax(-1)
    torch.testing.assert_close(grad, (p - torch.nn.functional.one_hot(target, N)) / TAU, rtol=1e-5, atol=1e-6)


def test_supervised_asks_for_a_target() -> None:
    with pytest.raises(ValueError, match="oracle's items"):
        Supervised().select(torch.zeros(2, 3), 1.0, Noise())


def test_a_very_low_temperature_makes_the_softmax_gradient_vanish() -> None:
    """The failure that `strategy=temperature_softmax tau.value=1e-5` shows."""
    logits = Noise(0, "inputs").normal([4, S, N], dtype=torch.float64).requires_grad_()
    items = torch.rand(4, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = quadratic(Softmax().select(logits, 1e-5, Noise()).pick(items))
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    assert not grad.any()


def test_sampled_straight_through_is_unbiased_for_a_linear_loss() -> None:
    """Its gradient at tau 1 does not depend on the draw, and is that of E[L(D)]."""
    logits = Noise(0, "inputs").normal([S, N], dtype=torch.float64).requires_grad_()
    items = Noise(0, "items").normal([N, 1], dtype=torch.float64)
    losses = STSampled().select(logits, 1.0, Noise()).pick(items).sum((-1, -2))
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    (exact,) = torch.autograd.grad((logits.softmax(-1) @ items).sum(), logits)
    torch.testing.assert_close(grad, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", [STSampled(), STGumbel()])
def test_draws_follow_the_softmax(strategy: Strategy) -> None:
    """Chi-squared of 20,000 seeded draws over 4 items: 3 degrees of freedom, below 30 but for 1 seed in 10^6."""
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    draws = 20_000
    selection = strategy.select(logits.expand(draws, 1, 4), 0.5, Noise(0, "strategy"))
    assert selection.index is not None
    counts = selection.index.flatten().bincount(minlength=4)
    expected = logits.softmax(-1) * draws
    assert float(((counts - expected) ** 2 / expected).sum()) < 30
