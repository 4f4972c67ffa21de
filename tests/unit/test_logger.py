"""What W&B is told, without starting it."""

import pytest

from selector.errors import InvalidInput
from selector.logger import SeedWandb, readable_id


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
