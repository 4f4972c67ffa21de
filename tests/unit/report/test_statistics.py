"""The statistics against scipy, known values, and what an interval promises."""

import math

import numpy as np
import pytest
from scipy import stats

from selector.report import statistics
from selector.report.statistics import bootstrap_iqm, iqm, performance_profile, probability_better

INF = math.inf


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("n", range(1, 14))
def test_iqm_is_scipys_trimmed_mean(n: int, rng: np.random.Generator) -> None:
    values = rng.standard_normal((n, 3))
    np.testing.assert_allclose(iqm(values), stats.trim_mean(values, 0.25, axis=0))
    np.testing.assert_allclose(iqm(values.T, axis=1), iqm(values))


def test_iqm_bears_a_quarter_of_failures_and_no_more() -> None:
    assert iqm(np.array([1.0, 2, 3, 4, 5, 6, INF, INF])) == 4.5
    assert iqm(np.array([1.0, 2, 3, 4, 5, INF, INF, INF])) == INF
    assert iqm(np.array([1.0, INF])) == INF


def test_bootstrap_agrees_with_scipy(rng: np.random.Generator) -> None:
    values = rng.lognormal(size=12)
    ours = bootstrap_iqm([values], resamples=20_000)
    theirs = stats.bootstrap(
        (values,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=20_000, rng=rng
    ).confidence_interval
    # Both ends are quantiles of 20,000 draws: a few hundredths of the interval's width apart.
    width = theirs.high - theirs.low
    assert ours.estimate == stats.trim_mean(values, 0.25)
    assert abs(ours.low - theirs.low) < 0.04 * width
    assert abs(ours.high - theirs.high) < 0.04 * width


def test_bootstrap_treats_every_column_alike(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng.standard_normal((8, 5))
    whole = bootstrap_iqm([values], resamples=200)
    monkeypatch.setattr(statistics, "_CHUNK", 1)  # one column at a time
    parts = bootstrap_iqm([values], resamples=200)
    for t in range(5):
        one = bootstrap_iqm([values[:, t]], resamples=200)
        for name in ("estimate", "low", "high"):
            assert getattr(one, name) == getattr(whole, name)[t] == getattr(parts, name)[t]


def test_bootstrap_depends_on_its_seed_alone(rng: np.random.Generator) -> None:
    values = [rng.standard_normal(9)]
    assert bootstrap_iqm(values, seed=3) == bootstrap_iqm(values, seed=3)
    assert bootstrap_iqm(values, seed=3) != bootstrap_iqm(values, seed=4)


def test_bootstrap_of_equal_values_and_of_a_single_one_has_no_width() -> None:
    for values in (np.full(6, 0.25), np.array([0.25])):
        found = bootstrap_iqm([values])
        assert found.estimate == found.low == found.high == 0.25


def test_bootstrap_with_failures_reaches_infinity_but_is_never_nan() -> None:
    found = bootstrap_iqm([np.array([1.0, 2, 3, 4, 5, 6, 7, INF])])
    assert found.estimate == 4.5
    assert found.low < 4.5
    assert found.high == INF
    lost = bootstrap_iqm([np.full(5, INF)])
    assert lost.estimate == lost.low == lost.high == INF


def test_stratified_bootstrap_resamples_within_strata() -> None:
    # Two problems without any scatter between seeds: nothing can change within a problem …
    strata = [np.zeros(5), np.ones(5)]
    stratified = bootstrap_iqm(strata)
    assert stratified.estimate == stratified.low == stratified.high == 0.5
    # … but the share of each problem changes if they are thrown together.
    plain = bootstrap_iqm([np.concatenate(strata)])
    assert plain.low < 0.5 < plain.high


@pytest.mark.parametrize(("n", "least", "most"), [(5, 0.865, 0.945), (10, 0.91, 0.975), (50, 0.91, 0.975)])
def test_coverage_of_the_iqm_interval(n: int, least: float, most: float, rng: np.random.Generator) -> None:
    # 1500 experiments side by side: the share has a standard error of .008 (n = 5) or .006. The limits lie five of them
    # away from .905, .942 and .944, measured with 4000 experiments: less than one seed in a million fails by chance.
    found = bootstrap_iqm([rng.standard_normal((n, 1500))], resamples=500)
    share = np.mean((found.low <= 0) & (found.high >= 0))
    assert least < share < most


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 8), (20, 3)])
def test_probability_is_the_mann_whitney_statistic(n: int, m: int, rng: np.random.Generator) -> None:
    x, y = rng.integers(0, 6, n).astype(float), rng.integers(0, 6, m).astype(float)  # with ties
    losses = stats.mannwhitneyu(x, y).statistic  # pairs with x above y, ties half
    assert probability_better([x], [y]).estimate == pytest.approx(1 - losses / (n * m), abs=1e-12)


def test_probability_of_known_cases() -> None:
    better = probability_better([np.array([1.0, 2])], [np.array([3.0, 4])])
    assert better.estimate == better.low == better.high == 1
    assert probability_better([np.array([1.0, 3])], [np.array([2.0, 4])]).estimate == 0.75
    failed = np.full(3, INF)
    assert probability_better([failed], [failed]).estimate == 0.5  # both failed: neither wins
    assert probability_better([np.array([9.0, 9, 9])], [failed]).estimate == 1


def test_probability_averages_over_strata() -> None:
    wins, loses = np.zeros(4), np.ones(4)
    found = probability_better([wins, loses], [loses, wins])
    assert found.estimate == found.low == found.high == 0.5


def test_probability_interval_agrees_with_scipy(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal(9), rng.standard_normal(11) + 0.7

    def share(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:  # noqa: ARG001 - scipy's signature
        return (a[..., :, None] < b[..., None, :]).mean((-1, -2))

    theirs = stats.bootstrap((x, y), share, method="percentile", n_resamples=20_000, rng=rng).confidence_interval
    ours = probability_better([x], [y], resamples=20_000)
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_coverage_of_the_probability_interval(rng: np.random.Generator) -> None:
    truth = stats.norm.cdf(0.5 / math.sqrt(2))  # P(X < Y) for unit normals, their means .5 apart
    hits = []
    for _ in range(600):
        found = probability_better([rng.standard_normal(10)], [rng.standard_normal(10) + 0.5], resamples=400)
        hits.append(found.low <= truth <= found.high)
    assert 0.87 < np.mean(hits) < 0.97  # measured .927 with 2000; standard error .011


def test_performance_profile_counts() -> None:
    thresholds = np.array([0.5, 1.0, 2.5, 4.0, 99.0])
    found = performance_profile([np.array([1.0, 2, 3, INF])], thresholds)
    np.testing.assert_array_equal(found.estimate, [0, 0.25, 0.5, 0.75, 0.75])  # a failed seed reaches nothing
    assert (found.low <= found.estimate).all()
    assert (found.estimate <= found.high).all()
    assert found.low.min() >= 0
    assert found.high.max() <= 1


def test_performance_profile_band_is_that_of_a_share() -> None:
    # With one threshold it is the bootstrap of a share, whose resamples are binomial.
    values = np.concatenate([np.zeros(30), np.ones(70)])
    found = performance_profile([values], np.array([0.5]), resamples=20_000)
    low, high = stats.binom.interval(0.95, 100, 0.3)
    assert found.estimate == 0.3
    assert found.low == pytest.approx(low / 100, abs=0.011)
    assert found.high == pytest.approx(high / 100, abs=0.011)


def test_stratified_profile_resamples_within_strata() -> None:
    found = performance_profile([np.zeros(4), np.ones(4)], np.array([0.5]))
    assert found.estimate == found.low == found.high == 0.5
