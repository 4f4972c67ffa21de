"""What the mean of the biased estimators is: trapezoid rule, relaxation, Rao-Blackwellisation."""

import pytest
import torch
from scipy.stats import gumbel_r, ks_1samp, ks_2samp
from torch import Tensor

from selector.noise import Noise
from selector.strategies import GST, GumbelRao, ReinMax, Softmax, STGumbel, STSampled
from selector.strategies.gumbel_rao import condition
from tests.statistical.ztest import (
    COMPARISONS,
    FAILURE_RATE,
    LOGITS,
    LOSSES,
    MASKED,
    Comparison,
    Loss,
    N,
    assert_mean,
    draws,
    enumerated,
    gradients,
    linear,
    mean_over_draws,
    quadratic,
    trapezoid,
)

CUBIC = LOSSES["cubic"]


# ---- exact, by enumerating the draw -------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [LOGITS, MASKED], ids=["plain", "masked"])
@pytest.mark.parametrize("loss", [linear, quadratic])
def test_reinmax_is_the_exact_gradient_of_linear_and_coupled_quadratic_losses(loss: Loss, logits: Tensor) -> None:
    torch.testing.assert_close(mean_over_draws(ReinMax(), loss, logits=logits), enumerated(loss, logits))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_reinmax_is_the_trapezoid_rule(loss: Loss) -> None:
    torch.testing.assert_close(mean_over_draws(ReinMax(), loss), trapezoid(loss))


@pytest.mark.parametrize("name", ["cubic", "mlp"])
def test_reinmax_is_not_exact_beyond_quadratics(name: str) -> None:
    loss = LOSSES[name]
    exact = enumerated(loss)
    assert (mean_over_draws(ReinMax(), loss) - exact).norm() > 0.01 * exact.norm()


def test_st_sampled_is_exact_for_linear_losses() -> None:
    torch.testing.assert_close(mean_over_draws(STSampled(), linear), enumerated(linear))


def test_st_sampled_on_a_quadratic_is_the_gradient_of_the_softmax_relaxation() -> None:
    relaxation = gradients(Softmax(), quadratic, LOGITS.unsqueeze(0), Noise())[0]
    torch.testing.assert_close(mean_over_draws(STSampled(), quadratic), relaxation)


# ---- sampled ------------------------------------------------------------------------------------------------------


def test_st_gumbel_tends_to_the_trapezoid_rule_while_its_variance_grows() -> None:
    limit = trapezoid(CUBIC)
    distances, variances = [], []
    for tau in (2.0, 1.0, 0.5, 0.25):
        samples = draws(STGumbel(), CUBIC, tau=tau)
        distances.append(float((samples.mean(0) - limit).norm() / limit.norm()))
        variances.append(float(samples.var(0).sum()))
    assert distances == sorted(distances, reverse=True)
    assert variances == sorted(variances)
    assert_mean(draws(STGumbel(), CUBIC, tau=0.02, K=2**19), limit, resolution=0.2)


@pytest.mark.parametrize("strategy", [STGumbel(), GST(), GST("p")], ids=["st_gumbel", "gst", "gst p"])
def test_gumbel_and_gapped_estimators_are_biased_even_for_linear_losses(strategy: STGumbel | GST) -> None:
    assert Comparison(draws(strategy, linear), enumerated(linear)).rejected


@pytest.mark.parametrize("K", [1, 10])
def test_gumbel_rao_has_the_mean_of_st_gumbel(K: int) -> None:
    assert_mean(draws(GumbelRao(K), CUBIC, tau=0.5, K=2**16), draws(STGumbel(), CUBIC, tau=0.5, seed=1))


@pytest.mark.parametrize("loss", [linear, quadratic])
def test_gumbel_rao_has_the_variance_of_a_mean_over_conditional_noises(loss: Loss) -> None:
    """Var_K = Var(what the draw decides) + Var(noise given the draw)/K, in shares of ST-Gumbel's variance."""
    plain = float(draws(STGumbel(), loss, tau=0.5, K=2**16).var(0).sum())
    ratio = {K: float(draws(GumbelRao(K), loss, tau=0.5, K=2**14).var(0).sum()) / plain for K in (1, 10, 50)}
    assert ratio[1] == pytest.approx(1.0, abs=0.05)
    floor = (50 * ratio[50] - 1) / 49  # what no K lowers
    assert ratio[10] == pytest.approx(floor + (1 - floor) / 10, abs=0.03)
    assert floor < 0.6


def test_gumbel_rao_has_a_third_of_the_variance_on_a_flat_choice_among_many() -> None:
    """The usual figures 1 / .38 / .33 of K = 1 / 10 / 50: one slot, 16 items, equal logits, linear loss, tau .5."""
    items = Noise(0, "items").normal([16, 1], dtype=torch.float64)

    def variance(strategy: STGumbel | GumbelRao, K: int = 2**14) -> float:
        logits = torch.zeros(K, 1, 16, dtype=torch.float64, requires_grad=True)
        strategy.select(logits, 0.5, Noise(0, "draws")).pick(items.expand(K, 16, 1)).sum().backward()
        assert logits.grad is not None
        return float(logits.grad.var(0).sum())

    plain = variance(STGumbel(), K=2**16)
    assert variance(GumbelRao(1)) / plain == pytest.approx(1.0, abs=0.05)
    assert variance(GumbelRao(10)) / plain == pytest.approx(0.38, abs=0.03)
    assert variance(GumbelRao(50), K=2**12) / plain == pytest.approx(0.33, abs=0.03)


def test_conditional_gumbels_have_the_law_of_gumbels_whose_argmax_is_the_draw() -> None:
    log_p = LOGITS[0].log_softmax(-1)
    share = FAILURE_RATE / COMPARISONS / (2 * N * N)  # all of this counts as one comparison
    free = log_p + Noise(0, "rejection").gumbel([2**18, N], dtype=torch.float64)
    for winner in range(N):
        rejection = free[free.argmax(-1) == winner]  # the law by its definition
        G = Noise(winner, "conditional").gumbel([2**16, N], dtype=torch.float64)
        z = condition(log_p, torch.tensor(winner), G)
        assert (z.argmax(-1) == winner).all()
        for i in range(N):
            assert ks_2samp(z[:, i].numpy(), rejection[:, i].numpy()).pvalue > share
        assert ks_1samp(z[:, winner].numpy(), gumbel_r.cdf).pvalue > share
    # And with the winner drawn, they are plain Gumbels again.
    index = free.argmax(-1)
    z = condition(log_p, index, Noise(1, "conditional").gumbel(free.shape, dtype=torch.float64))
    for i in range(N):
        assert ks_1samp((z - log_p)[:, i].numpy(), gumbel_r.cdf).pvalue > share
