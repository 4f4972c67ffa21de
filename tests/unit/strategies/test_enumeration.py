"""Estimators that try items instead of drawing them, against the expected loss written out."""

from itertools import product

import pytest
import torch
from torch import Tensor

from selector.batch import Batch
from selector.critics import Critic, SlotTargets, SumTarget
from selector.errors import InvalidInput
from selector.noise import Noise
from selector.strategies import Exact, LocalExpectation, Strategy

S, N, L = 3, 4, 5


def inputs(masked: bool) -> tuple[Tensor, Tensor]:
    """logits [L, S, N], items [L, N, 1]."""
    noise = Noise(0, "inputs")
    logits, items = noise.normal([L, S, N], dtype=torch.float64), noise.normal([L, N, 1], dtype=torch.float64)
    if masked:
        logits[0, :, 0] = logits[1, 1, 1:3] = -torch.inf
    return logits, items


def expected_loss(critic: Critic, logits: Tensor, items: Tensor) -> Tensor:
    """Σ_z p(z)·L(z), in a plain loop; differentiable."""
    pi, total = logits.softmax(-1), torch.zeros(L, dtype=logits.dtype)
    for choice in product(range(N), repeat=S):
        p = torch.stack([pi[:, s, i] for s, i in enumerate(choice)]).prod(0)
        total = total + p * critic(items[:, list(choice)].unsqueeze(0), Batch(items))[0]
    return total


def gradient(strategy: Strategy, critic: Critic, logits: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    selection = strategy.select(leaf, 1.0, Noise())
    value = strategy.surrogate(selection, critic(selection.pick(items), Batch(items)))
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), grad


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("strategy", "critic"),
    [
        (Exact(), SumTarget(1.0)),
        (Exact(N, S), SlotTargets(S, low=-1.0, high=1.0)),
        (Exact(N, S, separable=True), SlotTargets(S, low=-1.0, high=1.0)),
    ],
    ids=["coupled", "enumerated", "separable"],
)
def test_exact_is_the_expected_loss_and_its_gradient(strategy: Strategy, critic: Critic, masked: bool) -> None:
    logits, items = inputs(masked)
    value, grad = gradient(strategy, critic, logits, items)
    leaf = logits.clone().requires_grad_()
    expected = expected_loss(critic, leaf, items)
    # What is masked has probability 0 in the written-out sum; softmax's own backward is safe there.
    (exact,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_local_expectation_is_exact_whatever_it_draws_where_the_critic_is_separable(masked: bool) -> None:
    logits, items = inputs(masked)
    critic = SlotTargets(S, low=-1.0, high=1.0)
    _, exact = gradient(Exact(separable=True), critic, logits, items)
    _, local = gradient(LocalExpectation(), critic, logits, items)
    torch.testing.assert_close(local, exact, rtol=1e-10, atol=1e-12)


def test_a_separable_critic_needs_one_query_and_one_for_every_item_in_every_slot() -> None:
    logits, _ = inputs(masked=False)
    for strategy, queries in ((Exact(separable=True), 1 + S * N), (LocalExpectation(), 1 + S * N), (Exact(), N**S)):
        index = strategy.select(logits, 1.0, Noise()).index
        assert index is not None
        assert len(index) == queries


def test_too_many_selections_are_refused_by_name_unless_the_critic_is_separable() -> None:
    with pytest.raises(InvalidInput, match=r"max_selections=63: 4 items in 3 slots make N\^S = 64 selections"):
        Exact(N, S, max_selections=63)
    with pytest.raises(InvalidInput, match=r"max_selections=63"):
        Exact(max_selections=63).select(torch.zeros(S, N), 1.0, Noise())
    Exact(1000, 1000, separable=True)
