"""The mathematics behind the README's "Why": L = (x − 5)² for one slot, winner k, p = softmax(l/tau), ā = Σ p a."""

import pytest
import torch
from torch import Tensor

from selector.noise import Noise
from selector.strategies import Exact, Softmax, STArgmax, STGumbel, Strategy, STSampled

N = 8


def gradient(strategy: Strategy, logits: Tensor, a: Tensor, target: float, tau: float) -> Tensor:
    """d(surrogate)/d(logits) for slots filled from items ``a [B, N]``: ``[B, N]``."""
    logits = logits.unsqueeze(-2).clone().requires_grad_()  # one slot
    selection = strategy.select(logits, tau, Noise(3))
    losses = (selection.pick(a.unsqueeze(-1)) - target).square().sum((-1, -2))
    (g,) = torch.autograd.grad(strategy.surrogate(selection, losses).sum(), logits)
    return g.squeeze(-2)


@pytest.fixture
def case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, N, generator=generator, dtype=torch.float64)
    return logits, 10 * torch.rand(64, N, generator=generator, dtype=torch.float64)


def test_straight_through_argmax_knows_only_the_winner_and_a_tilt(case: tuple[Tensor, Tensor]) -> None:
    logits, a = case
    tau = 0.6
    p = (logits / tau).softmax(-1)
    mean = (p * a).sum(-1, keepdim=True)
    winner = a.gather(-1, logits.argmax(-1, keepdim=True))
    expected = 2 / tau * (winner - 5) * p * (a - mean)
    torch.testing.assert_close(gradient(STArgmax(), logits, a, 5.0, tau), expected)


def test_where_the_mixture_is_on_target_every_winner_is_pushed_down(case: tuple[Tensor, Tensor]) -> None:
    logits, a = case
    tau = 0.6
    p = (logits / tau).softmax(-1)
    a = a - (p * a).sum(-1, keepdim=True) + 5  # ā = 5 in every list
    pushed = gradient(STArgmax(), logits, a, 5.0, tau).gather(-1, logits.argmax(-1, keepdim=True))
    assert (pushed >= 0).all(), "a descent step lowers the winner's logit, however good the winner is"


def test_the_exact_gradient_compares_items(case: tuple[Tensor, Tensor]) -> None:
    logits, a = case
    pi = logits.softmax(-1)
    mean = (pi * a).sum(-1, keepdim=True)
    variance = (pi * (a - mean).square()).sum(-1, keepdim=True)
    expected = pi * (2 * (mean - 5) * (a - mean) + (a - mean).square() - variance)
    torch.testing.assert_close(gradient(Exact(), logits, a, 5.0, 1.0), expected)


def test_softmax_at_an_extreme_temperature_has_no_gradient(case: tuple[Tensor, Tensor]) -> None:
    logits, a = case
    g = gradient(Softmax(), logits, a, 5.0, 1e-5)
    assert (g.abs() > 1e-9).double().mean() < 0.02, "but for lists whose two best logits nearly tie"


@pytest.mark.parametrize("strategy", [Softmax(), STArgmax(), STSampled(), STGumbel()])
def test_scaling_the_inputs_scales_the_gradient_and_nothing_else(
    strategy: Strategy, case: tuple[Tensor, Tensor]
) -> None:
    """Items and target divided by 8 (a power of two rounds nothing) divide the loss by 64."""
    logits, a = case
    plain, scaled = gradient(strategy, logits, a, 5.0, 0.7), gradient(strategy, logits, a / 8, 5.0 / 8, 0.7)
    assert torch.equal(plain, 64 * scaled)


def test_shared_noise_restores_what_noise_in_the_forward_pass_alone_does_not() -> None:
    """Two items as far from 5 as each other and one on it, all logits equal: ā = 5, so only the second term is left.

    st_sampled's gradient for the item on target is zero whatever is drawn; st_gumbel's favours it, by far more than the
    noise of a mean of 2^17 draws.
    """
    draws = 2**17
    a = torch.tensor([2.0, 8.0, 5.0], dtype=torch.float64).expand(draws, 3)
    logits = torch.zeros(draws, 3, dtype=torch.float64)
    assert gradient(STSampled(), logits, a, 5.0, 1.0)[:, 2].abs().max() < 1e-12
    g = gradient(STGumbel(), logits, a, 5.0, 1.0)[:, 2]
    assert g.mean() < -20 * g.std() / draws**0.5
