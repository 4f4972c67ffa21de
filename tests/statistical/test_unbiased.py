"""Every claim "unbiased", against enumeration; and proof that the test would see a bias."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selector.noise import Noise
from selector.strategies import (
    RLOO,
    DecoupledST,
    EntmaxST,
    Exact,
    LocalExpectation,
    Rebar,
    Reinforce,
    ReinMax,
    Relax,
    Softmax,
    Strategy,
    STSampled,
)
from tests.statistical.ztest import (
    LOGITS,
    LOSSES,
    MASKED,
    Comparison,
    Loss,
    N,
    S,
    assert_mean,
    draws,
    enumerated,
    linear,
    quadratic,
)


def with_baseline(value: float) -> Reinforce:
    strategy = Reinforce().eval()  # type: Reinforce
    strategy.baseline.fill_(value)
    strategy.weight.fill_(1.0)
    return strategy


def with_any_control(seed: int, **options: float) -> Relax:
    """RELAX with a control variate that nobody has trained."""
    strategy: Relax = Relax(N, S, **options).eval()
    for parameter in strategy.r.parameters():
        parameter.data = 0.2 * Noise(seed, "control").normal(parameter.shape)
    return strategy


UNBIASED: dict[str, Callable[[], Strategy]] = {
    "reinforce, no baseline yet": Reinforce,
    "reinforce, baseline": lambda: with_baseline(1.5),
    "rloo, K=2": lambda: RLOO(K=2),
    "rloo, K=4": RLOO,
    "local_expectation": LocalExpectation,
    "rebar": lambda: Rebar(lambd=0.5),
    "rebar, eta=.3, lambda=2": lambda: Rebar(eta=0.3, lambd=2.0),
    "rebar, eta=-.5, lambda=.2": lambda: Rebar(eta=-0.5, lambd=0.2),
    "relax, untrained": lambda: Relax(N, S).eval(),
    "relax, any control": lambda: with_any_control(0, eta=0.7, lambd=0.8),
    "relax, other control": lambda: with_any_control(1, eta=-0.5, lambd=2.0),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("make", UNBIASED.values(), ids=UNBIASED)
def test_unbiased(make: Callable[[], Strategy], loss: Loss) -> None:
    assert_mean(draws(make(), loss), enumerated(loss))


@pytest.mark.parametrize("logits", [LOGITS, MASKED], ids=["plain", "masked"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_exact_is_exact(loss: Loss, logits: Tensor) -> None:
    samples = draws(Exact(), loss, K=2, logits=logits)
    torch.testing.assert_close(samples, enumerated(loss, logits).expand_as(samples))


@pytest.mark.parametrize("make", UNBIASED.values(), ids=UNBIASED)
def test_unbiased_with_a_masked_item(make: Callable[[], Strategy]) -> None:
    samples = draws(make(), quadratic, logits=MASKED)
    assert_mean(samples, enumerated(quadratic, MASKED))
    assert (samples[:, MASKED.isneginf()] == 0).all()


@pytest.mark.parametrize("loss", [linear, quadratic])
def test_reinmax_is_unbiased_for_quadratics_at_tau_1(loss: Loss) -> None:
    assert_mean(draws(ReinMax(), loss), enumerated(loss))


def softmax_at(tau: float) -> Callable[[Tensor], Tensor]:
    return lambda logits: (logits / tau).softmax(-1)


def entmax(alpha: float, tau: float) -> Callable[[Tensor], Tensor]:
    import entmax as library

    return lambda logits: library.entmax_bisect(logits / tau, alpha=alpha)


# name -> strategy, tau, the law of its draws
LINEAR: dict[str, tuple[Callable[[], Strategy], float, Callable[[Tensor], Tensor]]] = {
    "softmax": (Softmax, 1.0, softmax_at(1.0)),
    "st_sampled": (STSampled, 1.0, softmax_at(1.0)),
    "decoupled_st, tau .5": (DecoupledST, 0.5, softmax_at(0.5)),
    "decoupled_st, tau_f = tau_b = 2": (lambda: DecoupledST(2.0, 2.0), 1.0, softmax_at(2.0)),
    "entmax_st": (EntmaxST, 1.0, entmax(1.5, 1.0)),
    "entmax_st, alpha 2, tau .7": (lambda: EntmaxST(2.0), 0.7, entmax(2.0, 0.7)),
    "entmax_st, alpha 1.2": (lambda: EntmaxST(1.2), 1.0, entmax(1.2, 1.0)),
}


@pytest.mark.parametrize("claim", LINEAR.values(), ids=LINEAR)
def test_unbiased_for_linear_losses(
    claim: tuple[Callable[[], Strategy], float, Callable[[Tensor], Tensor]],
) -> None:
    make, tau, law = claim
    assert_mean(draws(make(), linear, tau=tau), enumerated(linear, law=law))


def test_the_same_test_rejects_a_biased_estimator() -> None:
    assert Comparison(draws(STSampled(), quadratic), enumerated(quadratic)).rejected
    assert not Comparison(draws(STSampled(), linear), enumerated(linear)).rejected


def test_the_same_test_rejects_a_bias_at_its_resolution() -> None:
    expected = enumerated(quadratic)
    samples = draws(RLOO(), quadratic)
    found = Comparison(samples, expected)
    shift = torch.zeros_like(expected)
    noisiest = int(samples.flatten(1).var(0).argmax())
    shift.view(-1)[noisiest] = found.resolution * expected.abs().max()
    assert Comparison(samples + shift, expected).rejected


@pytest.mark.parametrize("strategy", [LocalExpectation(), Exact(separable=True)], ids=["local", "exact"])
def test_slot_by_slot_is_exact_for_a_loss_that_is_a_sum_over_slots(strategy: Strategy) -> None:
    def separable(slots: Tensor) -> Tensor:
        return (slots - 0.3).square().sum(-1).exp().sum(-1)

    samples = draws(strategy, separable, K=64)
    torch.testing.assert_close(samples, enumerated(separable).expand_as(samples))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_control_variate_lowers_the_variance(loss: Loss) -> None:
    def variance(strategy: Strategy) -> float:
        return float(draws(strategy, loss, K=2**14).var(0).sum())

    assert variance(Rebar(lambd=0.5)) < 0.75 * variance(Reinforce())


def test_logits_of_the_tests_are_not_degenerate() -> None:
    assert LOGITS.softmax(-1).min() > 0.02
