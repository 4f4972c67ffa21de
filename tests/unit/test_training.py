"""fit(): objects that do not belong together are refused, and nothing is written without a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch

import selector
from selector import fit
from selector.critics import SumTarget
from selector.errors import InvalidInput
from selector.items import Uniform
from selector.problems import Problem
from selector.strategies import STGumbel, Supervised
from tests.support import small_network, small_problem

SIZES: dict[str, Any] = {"steps": 4, "batch_size": 4, "val_every": 3, "held_out": 4}


def test_a_run_in_memory_records_the_start_every_validation_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = small_network((5, 6))
    before = [p.detach().clone() for p in network.parameters()]
    trained, result = fit(small_problem(), network, STGumbel(), **SIZES)
    assert trained is network
    assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    assert [record.step for record in result.history.records] == [0, 3, 4]
    assert [record.samples for record in result.history.records] == [0, 12, 16]
    assert (result.seeds, result.steps, result.samples, result.oracle_kind) == ((5, 6), 4, 16, "separable")
    assert result.mean("regret") == pytest.approx(sum(result.metrics["regret"]) / 2)
    assert not list(tmp_path.iterdir())


def test_accumulated_batches_count_as_samples() -> None:
    _, result = fit(small_problem(), small_network(), STGumbel(), trainer={"accumulate_grad_batches": 3}, **SIZES)
    assert (result.steps, result.samples) == (4, 4 * 3 * 4)


@pytest.mark.parametrize("size", ["N", "S", "D", "C"])
def test_a_network_of_another_size_is_refused(size: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fit(small_problem(), small_network(**{size: 3}), STGumbel(), **SIZES)
    assert refused.value.key == f"network.{size}"


def test_supervised_is_refused_where_the_oracle_is_not_exact() -> None:
    problem = Problem(Uniform(), SumTarget(), N=4, S=2, D=1, max_enumeration=15)
    with pytest.raises(InvalidInput, match=r"needs an exact oracle.*4\^2 > problem\.max_enumeration = 15"):
        fit(problem, small_network(), Supervised(), **SIZES)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("val_every", 0),
        ("held_out", 0),
        ("patience", 0),
        ("stop_at_regret", 0.0),
        ("probe_every", 0),
    ],
)
def test_values_out_of_range_are_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        fit(small_problem(), small_network(), STGumbel(), **{**SIZES, option: value})
    assert refused.value.key == option


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(InvalidInput) as refused:
            fit(small_problem(), small_network(), STGumbel(), folder=folder, resume=True, **SIZES)
        assert refused.value.key == "resume"


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_there_and_differ(seeds: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="seeds="):
        small_network(seeds)


@pytest.mark.parametrize("name", selector.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(selector, name) is not None


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        selector.nothing  # noqa: B018
