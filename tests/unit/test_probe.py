"""Watching the gradient while training changes nothing of the training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from selector import fit
from selector.errors import InvalidInput
from selector.probe import GradientProbe
from selector.recording import History, Recorder, read_history
from selector.strategies import RLOO, Reinforce, Relax, STGumbel, Strategy
from tests.support import small_network, small_problem

SIZES: dict[str, Any] = {"steps": 9, "batch_size": 8, "val_every": 5, "held_out": 8}
MEASURED = ["grad/bias", "grad/std", "grad/cosine"]


def make(name: str) -> Strategy:
    """Afresh: reinforce and relax keep a state."""
    seeds = (3, 4)
    made: dict[str, Strategy] = {
        "st_gumbel": STGumbel(),
        "rloo": RLOO(),
        "reinforce": Reinforce(seeds=seeds),
        "relax": Relax(4, 2, seeds=seeds),
    }
    return made[name]


@pytest.mark.parametrize("name", ["st_gumbel", "rloo", "reinforce", "relax"])
def test_training_is_bit_identical_with_and_without_probing(name: str, tmp_path: Path) -> None:
    plain, watched = make(name), make(name)
    without, unwatched = fit(small_problem(), small_network((3, 4)), plain, **SIZES)
    with_probe, result = fit(
        small_problem(), small_network((3, 4)), watched, probe_every=2, folder=tmp_path / "run", **SIZES
    )
    for ours, theirs in zip(with_probe.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for key, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[key], value), key
    for key in ("val/regret", "train/loss"):
        assert result.history.series(key) == unwatched.history.series(key)

    stored = read_history(tmp_path / "run" / "metrics.csv")
    probed = [record for record in stored.records if "grad/bias" in record.values]
    assert [record.step for record in probed] == [2, 4, 6, 8]
    for record in probed:
        for key in MEASURED:
            assert len(record.values[key]) == 2
            assert all(value == value for value in record.values[key])  # not NaN
    assert not any(key.startswith("grad/") for record in unwatched.history.records for key in record.values)


def test_the_probe_measures_the_same_at_every_call() -> None:
    series = []
    for _ in range(2):
        _, result = fit(small_problem(), small_network((3, 4)), STGumbel(), probe_every=3, **SIZES)
        series.append([result.history.series(key) for key in MEASURED])
    assert series[0] == series[1]


@pytest.mark.parametrize(
    ("options", "key"),
    [({"every": 0}, "every"), ({"every": 1, "lists": 1}, "lists"), ({"every": 1, "draws": 1}, "draws")],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, int], key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        GradientProbe(Recorder(History([0])), **options)
    assert refused.value.key == key
