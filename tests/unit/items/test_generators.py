"""Item lists: their range, their stream, and what is refused."""

from collections.abc import Callable

import pytest
import torch

from selector.errors import InvalidInput
from selector.items import Fixed, Integers, Items, Normal, Uniform
from selector.noise import Noise, SeedNoise

SOURCES: list[Items] = [Uniform(-1.0, 2.0), Normal(3.0, 0.5), Integers(-2, 4)]
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)


@every_source
def test_lists_are_float32_of_the_shape_that_was_asked_for(source: Items) -> None:
    drawn = source.sample((2, 3, 5, 4), Noise()).items
    assert drawn.shape == (2, 3, 5, 4)
    assert drawn.dtype == torch.float32


@every_source
def test_a_seed_draws_the_same_lists_alone_and_beside_others(source: Items) -> None:
    together = source.sample((3, 4, 5, 2), SeedNoise([7, 0, 1], "items")).items
    assert torch.equal(together[1:2], source.sample((1, 4, 5, 2), SeedNoise([0], "items")).items)


def test_ranges() -> None:
    uniform = SOURCES[0].sample((10_000, 1), Noise()).items
    assert -1 <= uniform.min() < -0.99
    assert 1.99 < uniform.max() <= 2
    assert set(SOURCES[2].sample((1000, 1), Noise()).items.flatten().tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0}
    normal = SOURCES[1].sample((10_000, 1), Noise()).items
    assert abs(float(normal.mean()) - 3) < 6 * 0.005  # 6 standard errors, seeded
    assert abs(float(normal.std()) - 0.5) < 6 * 0.0036


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Uniform(1.0, 1.0), "high"),
        (lambda: Uniform(0.0, float("inf")), "low"),
        (lambda: Uniform(0.0, float("nan")), "high"),
        (lambda: Integers(3, 2), "high"),
        (lambda: Normal(0.0, 0.0), "std"),
        (lambda: Normal(float("inf"), 1.0), "mean"),
        (lambda: Fixed([]), "values"),
        (lambda: Fixed([[1.0], [1.0, 2.0]]), "values"),
        (lambda: Fixed([[1.0], [float("nan")]]), "values"),
    ],
)
def test_values_out_of_range_are_refused_by_name(make: Callable[[], Items], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make()
    assert refused.value.key == key
