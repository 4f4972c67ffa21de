"""From what a user wrote to objects: every refusal names the key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from selector.building import build, fits, resolve, type_name
from selector.errors import InvalidInput
from selector.networks import MLP, Network
from selector.schedules import Constant, Schedule

CONSTANT = "selector.schedules.Constant"


def node(**content: Any) -> Any:
    return OmegaConf.create(content)


def test_build_passes_the_options_and_what_the_constructor_asks_for() -> None:
    network = build(
        node(_target_="selector.networks.MLP", width=4), "network", Network, N=3, S=2, D=1, seeds=[7], unused=0
    )  # type: ignore[type-abstract]
    assert isinstance(network, MLP)
    assert (network.N, network.S, network.seeds) == (3, 2, (7,))
    assert network.body.last.weight.shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({}, "tau"),
        ({"_target_": 3}, "tau"),
        ({"_target_": "Constant"}, "tau._target_"),
        ({"_target_": "selector.schedules.Nothing"}, "tau._target_"),
        ({"_target_": "selector.networks.MLP"}, "tau._target_"),
        ({"_target_": CONSTANT, "vlue": 1.0}, "tau.vlue"),
        ({"_target_": CONSTANT, "value": "one"}, "tau.value"),
        ({"_target_": CONSTANT, "value": True}, "tau.value"),
        ({"_target_": CONSTANT, "value": 0.0}, "tau.value"),
        ({"_target_": CONSTANT, "warmup": 1.5}, "tau.warmup"),
    ],
)
def test_build_refuses_by_name(content: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        build(node(**content), "tau", Schedule)  # type: ignore[type-abstract]
    assert refused.value.key == key
    assert "\n" not in str(refused.value)


def test_build_refuses_what_is_set_elsewhere_and_what_is_missing() -> None:
    with pytest.raises(InvalidInput, match=r"network\.N=3: is set elsewhere: problem\.N"):
        build(node(_target_="selector.networks.MLP", N=3), "network", Network, N=3, S=2)  # type: ignore[type-abstract]
    with pytest.raises(InvalidInput, match=r"network\.S=None: MLP needs it"):
        build(node(_target_="selector.networks.MLP"), "network", Network, N=3)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, float, True),
        (1.5, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        (None, float | None, True),
        ("x", float | None, False),
        ([1, 2.5], Sequence[float], True),
        ([1, "a"], Sequence[float], False),
        ("ab", Sequence[str], False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ("x", str | Path, True),
        (3, Any, True),
    ],
)
def test_types_of_yaml_values(value: object, hint: Any, fit: bool) -> None:
    assert fits(value, hint) == fit


def test_types_in_words() -> None:
    assert type_name(float | None) == "a number or null"
    assert type_name(Sequence[int]) == "a list, each a whole number"
    assert type_name(Literal["a", "b"]) == "one of a, b"


def test_resolve_finds_the_class() -> None:
    assert resolve(CONSTANT, "tau._target_", Schedule) is Constant
