"""Loose guards of the ratios that `python -m selector bench` measures: twice what was reached, or more.

Not part of the default run: python -m pytest -m benchmark tests/benchmarks
"""

from collections.abc import Iterator
from statistics import median

import pytest
import torch

from selector.bench import training
from selector.bench.measure import in_turn, peak_memory
from selector.bench.picking import OURS, SHAPES, SMALL_ONLY, steps

# Lightning 2.6 asks torch 2.13 in a way that torch calls deprecated.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So that processor time is measured, which other processes do not take away."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("shape", "most"), list(zip(SHAPES, (1.2, 0.8, 0.7), strict=True)), ids=str)
def test_picking_is_faster_than_the_one_hot_product(shape: tuple[int, int, int, int], most: float) -> None:
    assert median(in_turn(*steps("st_gumbel", shape, "cpu"))) <= most


@pytest.mark.parametrize("name", [name for name in OURS if name not in SMALL_ONLY])
def test_no_strategy_takes_twice_as_long_as_its_plain_form(name: str) -> None:
    assert median(in_turn(*steps(name, SHAPES[1], "cpu"), seconds=1.0)) <= 2.0


def test_a_whole_training_step_keeps_up_with_a_loop_by_hand() -> None:
    rows = {row.case: row.ratio for row in training.rows("cpu", periods=4) if row.name.endswith("by hand")}
    assert rows["seeds 1"] <= 1.6
    assert rows["seeds 16"] <= 0.8


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_picking_takes_half_the_memory(shape: tuple[int, int, int, int]) -> None:
    ours, theirs = steps("st_gumbel", shape, "cpu")
    assert peak_memory(ours) <= 0.5 * peak_memory(theirs)
