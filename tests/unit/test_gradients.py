"""The gradient laboratory against slow counts in plain Python, and its correction for sampling noise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import selector.gradients
from selector.batch import Batch
from selector.critics import Critic, SumTarget, TargetValue
from selector.errors import InvalidInput
from selector.gradients import Moments, Reference, compare, draw_gradients, find_reference, probe
from selector.items import Normal
from selector.noise import Replay, SeedNoise
from selector.problems import Problem
from selector.strategies import RLOO, Exact, LocalExpectation, Rebar, ReinMax, STGumbel, Strategy, STSampled, Supervised

R, S, N, TAU = 2, 2, 3, 0.7
SEEDS = (0, 1)


def setting(lists: int, critic: Critic | None = None, eligible: float = 1.0) -> tuple[Problem, Batch, Tensor]:
    """A problem that couples its slots, lists [R, L, N, D] and logits [R, L, S, N]."""
    problem = Problem(Normal(), critic or SumTarget(1.0), N=N, S=S, eligible=eligible, eligible_per="slot")
    noise = SeedNoise(SEEDS, "probed")
    batch = problem.sample((R, lists), noise)
    return problem, batch, batch.masked(noise.normal([R, lists, S, N]))


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_moments_equal_a_loop_over_replayed_draws(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector.gradients, "_CHUNK", chunk)
    lists, draws = 3, 7
    problem, batch, logits = setting(lists)
    tape = Replay(SeedNoise(SEEDS, "probe"))
    moments = draw_gradients(STGumbel(), problem, batch, logits, TAU, tape, draws)
    assert moments.draws == draws

    tape.rewind()
    sizes = [2, 5] if chunk > 1 else [2, 1, 1, 1, 1, 1]
    noises = torch.cat([tape.gumbel([R, K, lists, S, N]) for K in sizes], 1).double()
    for r in range(R):
        for i in range(lists):
            items, gradients = batch.items[r, i].double(), []
            for k in range(draws):
                scores = logits[r, i].double() + noises[r, k, i]
                y = (scores / TAU).softmax(-1)
                total = items[scores.argmax(-1), 0].sum()
                v = (2 * (total - 1.0) * items[:, 0]).expand(S, N)
                gradients.append(y * (v - (y * v).sum(-1, keepdim=True)) / TAU)
            g = torch.stack(gradients)
            torch.testing.assert_close(moments.mean[r, i], g.mean(0), rtol=1e-4, atol=1e-5)
            variance = sum(float((one - g.mean(0)).square().sum()) for one in g) / (draws - 1)
            assert float(moments.variance[r, i]) == pytest.approx(variance, rel=1e-4)
    torch.testing.assert_close(moments.noise, moments.variance / draws)


def test_the_quality_is_what_its_formulas_say() -> None:
    """Two seeds, two lists, numbers that can be followed by hand."""
    truth = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2).expand(R, 2, 1, 2).double()
    reference = Reference(Moments(truth, torch.zeros(R, 2).double(), 1, 0.0), "exact")
    mean = torch.stack([truth[0] * 2, truth[1] * -1])
    variance = torch.tensor([[10.0, 30.0], [0.0, 0.0]]).double()
    quality = compare(Moments(mean, variance, 5, 0.0), reference)
    # Seed 0: ‖bias‖² = 25 less the noise 2 and 6: 21 on average, the norm² 25, std² 20 / 25.
    assert quality.bias.tolist() == pytest.approx([(21 / 25) ** 0.5, 2.0])
    assert quality.std.tolist() == pytest.approx([(20 / 25) ** 0.5, 0.0])
    assert quality.cosine.tolist() == pytest.approx([50 / (96 * 25) ** 0.5, -1.0])
    # Noise 2 and 6 from 5 draws: two lists' variances 2·4·5/4 and 2·36·5/4, so the mean's is (10 + 90) / 4.
    assert float(quality.z[0]) == pytest.approx(21 / 5)


def test_few_draws_of_an_unbiased_estimator_show_no_bias_where_the_naive_measure_shows_a_large_one() -> None:
    """Seeded; |z| < 4 fails for about 1 seed in 10^4."""
    problem, batch, logits = setting(lists=1000)
    noise = SeedNoise(SEEDS, "probe")
    reference = find_reference(problem, batch, logits, noise, draws=16)
    assert reference.kind == "exact"
    estimate = draw_gradients(RLOO(K=2), problem, batch, logits, TAU, noise, draws=4)
    quality = compare(estimate, reference)
    truth = reference.moments.mean
    naive = (estimate.mean - truth).square().sum((-1, -2)).mean(-1) / truth.square().sum((-1, -2)).mean(-1)
    assert (naive > 0.25).all(), "draws are few enough for a visible naive bias"
    assert (quality.z.abs() < 4).all()
    assert (quality.bias.square() < 0.2 * naive).all()
    assert ((quality.cosine - 1).abs() < 0.1).all()


def test_the_noise_of_a_sampled_reference_is_corrected_as_well() -> None:
    """An unbiased estimator against an unbiased reference, both from few draws; |z| < 4 fails for 1 seed in 10^4."""
    problem, batch, logits = setting(lists=1000)
    noise = SeedNoise(SEEDS, "probe")
    sampled = Reference(draw_gradients(RLOO(K=2), problem, batch, logits, TAU, noise, 4), "rloo")
    for strategy in (LocalExpectation(), RLOO(K=4), Rebar(), ReinMax()):
        tau = 1.0  # at which ReinMax is unbiased for a quadratic
        quality = compare(draw_gradients(strategy.eval(), problem, batch, logits, tau, noise, 4), sampled)
        assert (quality.z.abs() < 4).all(), type(strategy).__name__


def test_z_is_conservative_without_bias_and_large_with_one() -> None:
    """200 probes of 4 lists each: without bias z has mean 0 and a standard deviation of at most 1. Seeded."""
    problem, batch, logits = setting(lists=4)
    found = []
    for trial in range(100):
        noise = SeedNoise(SEEDS, f"probe/{trial}")
        reference = Reference(draw_gradients(LocalExpectation(), problem, batch, logits, 1.0, noise, 32), "")
        found.append(compare(draw_gradients(RLOO(), problem, batch, logits, 1.0, noise, 16), reference).z)
    z = torch.stack(found)
    assert abs(float(z.mean())) < 4 * float(z.std()) / 200**0.5
    assert 0.2 < float(z.std()) < 1
    biased, _ = probe(STSampled(), problem, batch, logits, 1.0, SeedNoise(SEEDS, "probe"), 200)
    assert (biased.z > 10).all()


@pytest.mark.parametrize("make", [LocalExpectation, lambda: RLOO(K=16)], ids=["local_expectation", "rloo"])
@pytest.mark.parametrize("eligible", [1.0, 0.6])
def test_references_agree(make: Callable[[], Strategy], eligible: float) -> None:
    """Seeded; |z| < 4 fails for about 1 seed in 10^4."""
    problem, batch, logits = setting(lists=200, eligible=eligible)
    noise = SeedNoise(SEEDS, "probe")
    exact = find_reference(problem, batch, logits, noise, draws=16)
    other = Reference(draw_gradients(make(), problem, batch, logits, 1.0, noise, 64), "other")
    assert not exact.moments.variance.any()
    quality = compare(other.moments, exact)
    assert (quality.z.abs() < 4).all()
    assert (quality.cosine > 0.98).all()
    assert not other.moments.mean[logits.isneginf()].any()


def test_which_reference_is_taken() -> None:
    noise = SeedNoise(SEEDS, "probe")
    problem, batch, logits = setting(lists=4)
    assert find_reference(problem, batch, logits, noise, 16, max_exact=N**S).kind == "exact"
    assert find_reference(problem, batch, logits, noise, 16, max_exact=N**S - 1).kind in ("local_expectation", "rloo")
    separable, batch, logits = setting(4, TargetValue(0.5))
    free = find_reference(separable, batch, logits, noise, 16, max_exact=1)
    assert free.kind == "local_expectation"  # it has no variance there
    exact = find_reference(separable, batch, logits, noise, 16)
    torch.testing.assert_close(free.moments.mean, exact.moments.mean, rtol=1e-5, atol=1e-5)


def test_what_is_exact_is_not_called_biased_for_its_rounding() -> None:
    problem, batch, logits = setting(32, TargetValue(0.5))
    for strategy in (Exact(), Exact(separable=True), LocalExpectation()):
        quality, kind = probe(strategy, problem, batch, logits, 1.0, SeedNoise(SEEDS, "probe"), 8)
        assert kind == "exact"
        assert (quality.z.abs() < 0.1).all()
        assert (quality.bias.abs() < 1e-6).all()
        assert (quality.std < 1e-6).all()


def test_seeds_are_kept_apart() -> None:
    problem, batch, logits = setting(5)
    together = draw_gradients(STGumbel(), problem, batch, logits, TAU, SeedNoise(SEEDS, "probe"), 9)
    for r, seed in enumerate(SEEDS):
        one = slice(r, r + 1)
        alone = draw_gradients(
            STGumbel(), problem, Batch(batch.items[one]), logits[one], TAU, SeedNoise([seed], "probe"), 9
        )
        torch.testing.assert_close(together.mean[one], alone.mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(together.variance[one], alone.variance, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(together.mean[0], together.mean[1])


def test_the_oracles_items_are_given_to_a_strategy_that_asks() -> None:
    problem, batch, logits = setting(3)
    moments = draw_gradients(Supervised(), problem, batch, logits, 1.0, SeedNoise(SEEDS, "probe"), 2)
    target = torch.nn.functional.one_hot(problem.oracle(batch).index, N)
    torch.testing.assert_close(moments.mean, (logits.softmax(-1) - target).double(), rtol=1e-5, atol=1e-6)
    assert float(moments.variance.max()) < 1e-10


def test_a_probe_gives_the_strategy_back_as_it_was() -> None:
    problem, batch, logits = setting(2)
    for training in (True, False):
        strategy = Rebar().train(training)
        probe(strategy, problem, batch, logits, TAU, SeedNoise(SEEDS, "probe"), 2)
        assert strategy.training == training


def test_without_replacement_there_is_nothing_to_compare_with() -> None:
    problem = Problem(Normal(), SumTarget(1.0), N=N, S=S, without_replacement=True)
    _, batch, logits = setting(2)
    with pytest.raises(InvalidInput, match=r"problem\.without_replacement=True"):
        probe(RLOO(), problem, batch, logits, TAU, SeedNoise(SEEDS, "probe"), 2)
