"""Schedules: ends, warm-up, floor, refusals."""

import math
from typing import Any

import pytest

from selector.errors import InvalidInput
from selector.schedules import Constant, Cosine, Exponential, Linear, Schedule, Steps

ANNEALED = [Linear, Exponential, Cosine]


@pytest.mark.parametrize("kind", ANNEALED)
def test_an_annealed_schedule_starts_and_ends_where_it_says(kind: Any) -> None:
    schedule = kind(start=2.0, end=0.5, steps=100)
    assert schedule(0) == pytest.approx(2.0, rel=1e-15)
    assert schedule(100) == pytest.approx(0.5, rel=1e-15)
    assert schedule(10_000) == schedule(100)
    values = [schedule(step) for step in range(101)]
    assert values == sorted(values, reverse=True)


def test_half_way_values() -> None:
    assert Linear(start=2.0, end=0.5, steps=100)(50) == 1.25
    assert Exponential(start=2.0, end=0.5, steps=100)(50) == pytest.approx(1.0, rel=1e-15)
    assert Cosine(start=2.0, end=0.5, steps=100)(50) == pytest.approx(1.25, rel=1e-15)
    assert Cosine(start=2.0, end=0.5, steps=3)(1) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 3)) / 2)


def test_exponential_changes_by_the_same_factor_at_every_step() -> None:
    schedule = Exponential(start=2.0, end=0.5, steps=10)
    for step in range(10):
        assert schedule(step + 1) / schedule(step) == pytest.approx(0.25**0.1, rel=1e-12)


@pytest.mark.parametrize("kind", ANNEALED)
def test_a_schedule_may_rise(kind: Any) -> None:
    schedule = kind(start=0.1, end=1.0, steps=10)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(10) == pytest.approx(1.0)


def test_steps_multiply_after_every_so_many_steps() -> None:
    schedule = Steps(start=2.0, factor=0.5, every=3)
    assert [schedule(step) for step in range(7)] == [2, 2, 2, 1, 1, 1, 0.5]


def test_steps_never_underflow_to_zero() -> None:
    assert Steps(start=1.0, factor=0.1, every=1)(100_000) > 0


@pytest.mark.parametrize("kind", ANNEALED)
def test_the_floor_holds(kind: Any) -> None:
    schedule = kind(start=2.0, end=0.5, steps=10, floor=0.8)
    assert schedule(10) == 0.8
    assert schedule(0) == pytest.approx(2.0)
    assert Steps(start=1.0, factor=0.5, every=1, floor=0.3)(5) == 0.3


@pytest.mark.parametrize("kind", ANNEALED)
def test_the_warm_up_leads_linearly_to_the_start_and_the_end_is_reached_at_steps(kind: Any) -> None:
    schedule = kind(start=2.0, end=0.5, steps=100, warmup=10, warmup_start=1.0)
    assert [schedule(step) for step in (0, 5)] == pytest.approx([1.0, 1.5])
    assert schedule(10) == pytest.approx(2.0)
    assert schedule(99) > schedule(100) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ANNEALED)
def test_a_warm_up_without_a_start_holds_the_first_value(kind: Any) -> None:
    schedule = kind(start=2.0, end=0.5, steps=100, warmup=10)
    assert {schedule(step) for step in range(11)} == {schedule(0)}
    assert schedule(11) < schedule(10)


def test_the_floor_holds_in_the_warm_up() -> None:
    assert Constant(value=1.0, warmup=10, warmup_start=0.01, floor=0.5)(0) == 0.5


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (Constant, {"value": 0.0}, "value"),
        (Constant, {"value": -1.0}, "value"),
        (Constant, {"value": math.nan}, "value"),
        (Constant, {"value": math.inf}, "value"),
        (Constant, {"floor": -0.1}, "floor"),
        (Constant, {"warmup": -1}, "warmup"),
        (Constant, {"warmup": 5}, "warmup"),
        (Constant, {"warmup": 5, "warmup_start": 0.0}, "warmup_start"),
        (Linear, {"start": 0.0}, "start"),
        (Exponential, {"end": 0.0}, "end"),
        (Cosine, {"end": -1.0}, "end"),
        (Cosine, {"steps": 0}, "steps"),
        (Linear, {"steps": 10, "warmup": 10}, "steps"),
        (Steps, {"factor": 0.0}, "factor"),
        (Steps, {"every": 0}, "every"),
        (Steps, {"start": -2.0}, "start"),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind: type[Schedule], options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        kind(**options)
    assert refused.value.key == key
