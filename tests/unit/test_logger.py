"""What W&B is told, without starting it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from selector import logger as module
from selector.errors import InvalidInput
from selector.logger import SeedWandb, readable_id
from selector.recording import Record


def test_run_ids_hold_only_what_wandb_allows() -> None:
    assert readable_id("st_gumbel-x y/z:1-seed0") == "st_gumbel-x-y-z-1-seed0"
    assert readable_id("a" * 300 + "-seed7").endswith("-seed7")
    assert len(readable_id("a" * 300)) == 128


def test_one_identity_per_seed_or_one_for_all() -> None:
    assert [suffix for suffix, _ in SeedWandb("n", [3, 4], {})._identities()] == ["seed3", "seed4"]
    assert SeedWandb("n", [3, 4], {}, max_runs=1)._identities() == [("all-seeds", {"seeds": [3, 4]})]


def test_values_per_run_or_their_mean_and_spread() -> None:
    assert SeedWandb("n", [3, 4], {})._per_run({"a": [1.0, 3.0]}) == [{"a": 1.0}, {"a": 3.0}]
    assert SeedWandb("n", [3, 4], {}, max_runs=1)._per_run({"a": [1.0, 3.0]}) == [{"a": 2.0, "a/std": 1.0}]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidInput, match="mode=cloud"):
        SeedWandb("n", [0], {}, mode="cloud")


def test_one_time_is_for_all_seeds_and_the_rest_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes 4 s for every run, on a clock of its own."""
    now, modes = 0.0, [""][:0]
    said: list[str] = []

    def init(**given: Any) -> Any:
        nonlocal now
        now += 4.0 if given["mode"] == "online" else 0.0
        modes.append(given["mode"])
        return SimpleNamespace(define_metric=lambda *_, **__: None)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
    monkeypatch.setattr(module, "_no_account", lambda: None)
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(module, "WandbLogger", lambda experiment: experiment)
    logger = SeedWandb("n", range(32), {}, folder=tmp_path, mode="online")
    logger.say = said.append
    logger.start()
    assert modes == ["online"] * 2 + ["offline"] * 30
    assert now <= module._ALL_START_WITHIN
    assert said == ["is offline for 30 of 32 runs (it answers slowly)"]


class Dead:
    """A run whose service process has died."""

    dir = "/nowhere/files"

    def __init__(self) -> None:
        self.experiment = self
        self.asked = 0

    def log_metrics(self, _: dict[str, float]) -> None:
        self.asked += 1
        raise ConnectionResetError("Connection lost")

    def finish(self) -> None:
        raise ConnectionResetError("Connection lost")


def test_when_wandb_fails_it_is_said_once_and_it_is_left_alone() -> None:
    logger, dead = SeedWandb("n", [0], {}), Dead()
    said: list[str] = []
    logger.say = said.append
    logger._runs = [dead]  # type: ignore[list-item]
    for step in (1, 2):
        logger.log_seeds(Record(step, step, {"a": [1.0]}))
    logger.summarize({"a": [1.0]})
    logger.close()
    assert dead.asked == 1
    assert said == ["has failed and gets no more of this run (Connection lost)"]


def test_settings_that_wandb_refuses_do_not_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refuse(**_: Any) -> None:
        raise ValueError("1 validation error for Settings\nbase_url")

    monkeypatch.setattr(wandb, "init", refuse)
    logger = SeedWandb("n", [0], {}, folder=tmp_path)
    logger.say = said.append
    logger.start()
    logger.log_seeds(Record(1, 1, {"a": [1.0]}))
    logger.close()
    assert said == ["has failed and gets no more of this run (1 validation error for Settings base_url)"]
