"""From a configuration to the objects of a run."""

from pathlib import Path

import pytest

from selector.experiment import build_experiment, build_logger
from tests.support import compose


def test_seed_zero_is_a_seed_and_seeds_are_consecutive() -> None:
    assert build_experiment(compose("network.width=4", "seed=0")).network.seeds == (0,)
    assert build_experiment(compose("network.width=4", "seed=3", "seeds=3")).network.seeds == (3, 4, 5)


def test_no_logger_is_none_and_building_one_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_logger(compose("logger=none"), [0]) is None
    logger = build_logger(compose(), [0])
    assert logger is not None
    assert not list(tmp_path.iterdir())
