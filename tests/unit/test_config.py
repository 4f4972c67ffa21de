"""What is checked before anything is built: every refusal names the key."""

import pytest

from selector.config import build_schedules, check_config
from selector.errors import InvalidInput
from selector.schedules import Constant, EntropyBonus
from tests.support import compose


def test_the_configuration_as_it_is_passes() -> None:
    check_config(compose())


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["+no_such=1"], "no_such"),
        (["+problem.K=1"], "problem.K"),
        (["+probe.no_such=1"], "probe.no_such"),
        (["max_steps=0"], "max_steps"),
        (["seed=-1"], "seed"),
        (["stop_at_regret=0"], "stop_at_regret"),
        (["problem.D=0"], "problem.D"),
        (["problem.C=-1"], "problem.C"),
        (["seeds=1000000000000"], "seeds"),
        (["accelerator.devices=0"], "accelerator.devices"),
        (["trust=[a.b]"], "trust"),
        (["entropy.start=-1"], "entropy.start"),
        (["tau=constant", "tau.value=warm"], "tau.value"),
    ],
)
def test_what_is_wrong_is_named(overrides: list[str], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_config(compose(*overrides))
    assert refused.value.key == key


def test_schedules_that_end_with_the_run() -> None:
    tau, entropy = build_schedules(compose("tau=constant", "tau.value=2", "entropy.start=1", "max_steps=7"))
    assert tau == Constant(value=2)
    assert entropy == EntropyBonus(start=1.0, end=0.0, steps=7)
