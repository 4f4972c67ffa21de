"""Loose guards of the ratios that `python -m selector bench` measures: twice what was reached, or more.

Not part of the default run: python -m pytest -m benchmark tests/benchmarks
"""

from statistics import median

import pytest
import torch

from selector.bench.measure import in_turn, peak_memory
from selector.bench.picking import SHAPES, steps

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize(("shape", "most"), list(zip(SHAPES, (1.2, 0.8, 0.7), strict=True)), ids=str)
def test_picking_is_faster_than_the_one_hot_product(shape: tuple[int, int, int, int], most: float) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert median(in_turn(*steps("st_gumbel", shape, "cpu"))) <= most
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_picking_takes_half_the_memory(shape: tuple[int, int, int, int]) -> None:
    ours, theirs = steps("st_gumbel", shape, "cpu")
    assert peak_memory(ours) <= 0.5 * peak_memory(theirs)
