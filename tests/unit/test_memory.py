"""Sizes that the memory does not hold."""

import pytest

from selector.errors import InvalidInput
from selector.experiment import build_experiment
from tests.support import compose

LARGE = ["network=pointer", "problem.S=64", "problem.N=65536", "problem.D=16", "batch_size=8"]


@pytest.mark.parametrize("strategy", ["local_expectation", "exact"])
def test_a_strategy_that_tries_every_item_is_refused_where_its_selections_do_not_fit(strategy: str) -> None:
    with pytest.raises(InvalidInput, match=r"strategy=.*4,194,305 selections of every list.*GiB"):
        build_experiment(compose(*LARGE, "held_out=16", f"strategy={strategy}"))


def test_many_held_out_items_are_named_with_a_number_that_is_not_too_many() -> None:
    with pytest.warns(UserWarning, match="held_out: 257 lists .* held_out=256 takes"):
        build_experiment(compose(*LARGE, "held_out=257"))
    build_experiment(compose(*LARGE, "held_out=256"))  # a warning would fail the test
