"""What the figures show is what the statistics say."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selector.report.collect import collect
from selector.report.comparison import Comparison, compare
from selector.report.plots import (
    Axis,
    LinePlot,
    MatrixPlot,
    Plot,
    StripPlot,
    TauPlot,
    drawn,
    log_ticks,
    number,
    probability,
)
from selector.report.statistics import bootstrap_iqm, iqm, probability_better

RunFolder = Callable[..., Path]


def one(runs: Path) -> Comparison:
    (comparison,) = compare(collect([runs]))
    return comparison


def plots(comparison: Comparison) -> dict[str, Plot]:
    return {plot.name: plot for plot in comparison.plots}


def lines(comparison: Comparison, name: str) -> LinePlot:
    plot = plots(comparison)[name]
    assert isinstance(plot, LinePlot)
    return plot


def path(seed: int, step: int) -> float:
    return math.exp(-step / (40 + 5 * seed))


def test_curves_are_the_statistics_of_the_seeds(run_folder: RunFolder, runs: Path) -> None:
    run_folder(seeds=range(8))
    curve = lines(one(runs), "regret_samples").curves[0]
    np.testing.assert_array_equal(curve.x, [0, 250, 500, 750, 1000])
    table = np.array([[path(seed, step) for step in (0, 25, 50, 75, 100)] for seed in range(8)])
    np.testing.assert_array_equal(curve.y.estimate, iqm(table))
    expected = bootstrap_iqm([table], resamples=1000)
    np.testing.assert_array_equal(curve.y.low, expected.low)
    np.testing.assert_array_equal(curve.y.high, expected.high)


def test_ranking_and_matrix_are_the_statistics(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", strategy="softmax", value=lambda seed, _: 0.5 + 0.1 * seed)
    run_folder("b", strategy="st_gumbel", value=lambda seed, _: 0.25 + 0.1 * seed)
    comparison = one(runs)
    assert [s.label for s in comparison.standings] == ["st_gumbel", "softmax"]
    better, worse = (s.finals for s in comparison.standings)
    expected = probability_better([better], [worse])
    matrix = plots(comparison)["probability"]
    assert isinstance(matrix, MatrixPlot)
    assert matrix.cells[0][0] is None
    assert matrix.cells[0][1] == comparison.standings[0].better == expected
    assert matrix.cells[1][0] is not None
    assert matrix.cells[1][0].estimate == pytest.approx(1 - expected.estimate)
    low, high = probability(float(expected.low)), probability(float(expected.high))
    words = f"st_gumbel beats softmax on regret, P = {probability(float(expected.estimate))} [{low}, {high}], 5 seeds"
    assert comparison.sentences == [words]


def test_no_clear_winner_is_called_one(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", strategy="softmax", seeds=range(6))
    run_folder("b", strategy="st_gumbel")
    (sentence,) = one(runs).sentences
    assert "no clear winner" in sentence
    assert sentence.endswith(("5 and 6 seeds", "6 and 5 seeds"))


def test_separate_jobs_give_the_numbers_of_side_by_side_seeds(run_folder: RunFolder, runs: Path) -> None:
    run_folder("together/all", seeds=range(6))
    for seed in range(6):
        run_folder(f"apart/{seed}", seeds=[seed])
    together, apart = one(runs / "together"), one(runs / "apart")
    for name in ("regret_samples", "regret_seconds", "logit_spread", "performance_profile"):
        a, b = lines(together, name).curves[0], lines(apart, name).curves[0]
        np.testing.assert_array_equal(a.x, b.x)
        for part in ("estimate", "low", "high"):
            np.testing.assert_array_equal(getattr(a.y, part), getattr(b.y, part))
    assert together.standings[0].regret == apart.standings[0].regret


def test_seeds_are_aligned_by_samples(run_folder: RunFolder, runs: Path) -> None:
    # Straight lines in samples, measured at different steps: their mean is the same straight line.
    run_folder("a", seeds=[0], value=lambda _, step: 1 - step / 200)
    run_folder("b", seeds=[1], value=lambda _, step: 1 - step / 200, steps=(0, 40, 80, 100))
    curve = lines(one(runs), "regret_samples").curves[0]
    np.testing.assert_array_equal(curve.x, [0, 250, 400, 500, 750, 800, 1000])
    np.testing.assert_allclose(curve.y.estimate, 1 - curve.x / 2000)


def test_a_stopped_run_keeps_its_regret_and_an_unfinished_one_counts_as_worst(
    run_folder: RunFolder, runs: Path
) -> None:
    run_folder("a", seeds=range(4), value=lambda *_: 0.25)
    run_folder("early", seeds=[4], value=lambda *_: 0.25, steps=(0, 25, 50))
    curve = lines(one(runs), "regret_samples").curves[0]
    np.testing.assert_array_equal(curve.y.high, 0.25)
    run_folder("crashed", seeds=[5], value=lambda *_: 0.25, steps=(0, 25, 50), finished=False)
    curve = lines(one(runs), "regret_samples").curves[0]
    np.testing.assert_array_equal(curve.y.estimate, 0.25)  # one of six is cut off
    np.testing.assert_array_equal(np.isinf(curve.y.high), curve.x > 500)


def test_failures_are_worst_in_the_ranking_and_shown(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", strategy="softmax", value=lambda *_: 0.9)
    run_folder("b", strategy="st_gumbel", value=lambda *_: 0.1, nan={0: 50, 1: 75, 2: 0})
    comparison = one(runs)
    assert [s.label for s in comparison.standings] == ["softmax", "st_gumbel"]
    lost = comparison.standings[1]
    assert float(lost.regret.estimate) == math.inf
    assert [seed for seed, _ in lost.failures] == [0, 1, 2]
    assert comparison.standings[0].better is not None
    assert float(comparison.standings[0].better.estimate) == 0.6  # three of five seeds
    assert (
        "st_gumbel, seed 0: failed: val/soft_loss is nan from sample 500 on; counted as worst." in comparison.warnings
    )
    profile = lines(comparison, "performance_profile").curves[1]
    assert profile.y.estimate.max() == 0.4


def test_a_comparison_of_failures_alone_still_reports_them(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", finished=False, steps=(0, 25))
    run_folder("b", strategy="softmax", finished=False, records=False)
    comparison = one(runs)
    assert all(len(s.failures) == 5 for s in comparison.standings)
    assert "performance_profile" not in plots(comparison)
    # What was measured before the end is still drawn.
    assert [curve.label for curve in lines(comparison, "regret_samples").curves] == ["st_gumbel"]


def test_fewer_than_five_seeds_are_warned_of(run_folder: RunFolder, runs: Path) -> None:
    run_folder("a", seeds=range(5))
    run_folder("b", strategy="softmax", seeds=range(4))
    comparison = one(runs)
    (warning,) = comparison.warnings
    assert warning.startswith("Fewer than five seeds: softmax (4).")
    assert comparison.sentences[0].endswith("seeds: too few to rely on")


def test_figures_without_data_are_left_out(run_folder: RunFolder, runs: Path) -> None:
    run_folder()
    always = ["regret_samples", "regret_seconds", "final_regret", "performance_profile", "logit_spread"]
    assert list(plots(one(runs))) == always


def test_gradient_figures_come_from_the_records(run_folder: RunFolder, runs: Path) -> None:
    extra = {"grad/bias": lambda seed, step: 0.1 + seed, "grad/cosine": lambda seed, step: -0.5}  # noqa: ARG005
    run_folder(extra=extra)
    found = one(runs)
    np.testing.assert_allclose(lines(found, "gradient_bias").curves[0].y.estimate, 2.1)
    np.testing.assert_allclose(lines(found, "gradient_cosine").curves[0].y.estimate, -0.5)
    assert not lines(found, "gradient_cosine").y.log
    assert "gradient_std" not in plots(found)


def test_gradients_measured_between_validations_are_shown(run_folder: RunFolder, runs: Path) -> None:
    with (run_folder(seeds=[0]) / "metrics.csv").open("a") as f:
        f.writelines(f"{step},{10 * step},0,grad/bias,{step / 100}\n" for step in (10, 60, 110))
    found = one(runs)
    curve = lines(found, "gradient_bias").curves[0]
    np.testing.assert_array_equal(curve.x, [100, 600, 1100])
    np.testing.assert_array_equal(curve.y.estimate, [0.1, 0.6, 1.1])
    np.testing.assert_array_equal(lines(found, "regret_samples").curves[0].x, [0, 250, 500, 750, 1000])
    assert found.standings[0].finals == path(0, 100)
    assert found.standings[0].spread == 1.5


def test_sensitivity_to_tau(run_folder: RunFolder, runs: Path) -> None:
    for tau in (2.0, 0.5):
        run_folder(f"t{tau}", settings={"tau": {"value": tau}}, value=lambda *_, tau=tau: 0.1 * tau)
    run_folder("softmax", strategy="softmax")
    plot = plots(one(runs))["sensitivity_tau"]
    assert isinstance(plot, TauPlot)
    ((family, points),) = plot.families
    assert family == "st_gumbel"
    assert [(p.tau, float(p.regret.estimate)) for p in points] == [
        (0.5, pytest.approx(0.05)),
        (2.0, pytest.approx(0.2)),
    ]


def test_every_seed_is_in_the_strip(run_folder: RunFolder, runs: Path) -> None:
    run_folder(seeds=range(7), nan={3: 0})
    plot = plots(one(runs))["final_regret"]
    assert isinstance(plot, StripPlot)
    finals = plot.standings[0].finals
    assert len(finals) == 7
    assert np.isinf(finals).tolist() == [seed == 3 for seed in range(7)]


def test_several_problems_are_also_compared_together(run_folder: RunFolder, runs: Path) -> None:
    for problem in ("seed_question", "teacher"):
        for strategy in ("st_gumbel", "softmax"):
            low = 0.1 if strategy == "st_gumbel" else 0.6
            run_folder(
                f"{problem}-{strategy}",
                strategy=strategy,
                choices={"problem": problem},
                value=lambda seed, _, low=low: low + 0.01 * seed,
            )
    run_folder("alone", strategy="st_sampled")
    together, *parts = compare(collect([runs]))
    assert [part.title for part in parts] == ["seed_question", "teacher"]
    assert [s.label for s in together.standings] == ["st_gumbel", "softmax"]
    assert len(together.standings[0].finals) == 10
    assert together.warnings == ["Without the same number of seeds on every problem, so not compared: st_sampled."]


def test_a_best_known_oracle_is_named(run_folder: RunFolder, runs: Path) -> None:
    run_folder(oracle="best-known")
    assert "best-known oracle: the true regret may be higher" in one(runs).facts


def test_long_runs_are_thinned_but_keep_both_ends(run_folder: RunFolder, runs: Path) -> None:
    run_folder(steps=range(500), max_steps=499)
    curve = lines(one(runs), "regret_samples").curves[0]
    assert len(curve.x) <= 120
    assert (curve.x[0], curve.x[-1]) == (0, 4990)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.04, 1.3, [0.05, 0.1, 0.2, 0.5, 1.0]),
        (1e-5, 2.0, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0]),
        (0.97, 0.99, [0.974, 0.978, 0.982, 0.986]),
        (3.0, 8.0, [3.7, 4.4, 5.4, 6.6]),
    ],
)
def test_log_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == ticks


def test_numbers_in_words() -> None:
    assert [probability(p) for p in (0.931, 1.0, 0.0)] == [".93", "1.00", ".00"]
    assert [number(x) for x in (0.12345, math.inf, math.nan)] == ["0.123", "failed", "-"]


def test_drawn_numbers_stay_inside_the_axis() -> None:
    np.testing.assert_array_equal(drawn(np.array([-1.0, 0.5, math.inf]), Axis("", False, (0, 1))), [0, 0.5, 1])
