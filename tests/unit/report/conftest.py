"""Run folders without training: what train.py would have left behind, with numbers of our choice."""

import csv
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

RECORDS = (0, 25, 50, 75, 100)  # optimizer steps
BATCH = 10


def regret(seed: int, step: int) -> float:
    """Falls from 1, every seed on a path of its own."""
    return math.exp(-step / (40 + 5 * seed))


def make_run(
    folder: Path,
    *,
    strategy: str = "st_gumbel",
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    value: Callable[[int, int], float] = regret,
    steps: Sequence[int] = RECORDS,
    max_steps: int = 100,
    finished: bool = True,
    records: bool = True,
    nan: Mapping[int, int] | None = None,
    choices: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Collection[str] = (),
    extra: Mapping[str, Callable[[int, int], float]] | None = None,
    oracle: str = "separable",
) -> Path:
    """Write one run.

    Args:
        value: (seed, step) -> regret.
        nan: seed -> the step from which its logits are NaN.
        extra: further keys of metrics.csv, each (seed, step) -> value.
    """
    picked = {"strategy": strategy, "problem": "seed_question", "network": "mlp", "tau": "constant"} | dict(
        choices or {}
    )
    picked |= {key: picked.get(key, default) for key, default in (("items", "uniform"), ("critic", "target_value"))}
    config: dict[str, Any] = {
        "name": folder.name,
        "seed": min(seeds),
        "seeds": len(seeds),
        "max_steps": max_steps,
        "batch_size": BATCH,
        "val_every": 25,
        "held_out": 64,
        "problem": {"N": 8, "S": 4, "D": 1},
        "critic": {"_target_": "selector.critics.TargetValue", "target": 5.0},
        "network": {"_target_": f"selector.networks.{picked['network']}", "width": 16},
        "strategy": {"_target_": f"selector.strategies.{strategy}"},
        "tau": {"_target_": "selector.schedules.Constant", "value": 1.0},
        "optimizer": {"_target_": "selector.optimizer.Adam", "lr": 0.002},
        "trainer": {"accumulate_grad_batches": 1},
    }
    for group, options in (settings or {}).items():
        config[group] |= options
    hydra = {"hydra": {"runtime": {"choices": picked}, "overrides": {"task": [f"strategy={strategy}", *overrides]}}}
    (folder / ".hydra").mkdir(parents=True)
    # JSON is YAML.
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps(hydra))
    if records:
        with (folder / "metrics.csv").open("w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(["step", "samples", "seed", "key", "value"])
            for step in steps:
                for seed in seeds:
                    broken = step >= (nan or {}).get(seed, 10**9)
                    row = {
                        "val/regret": value(seed, step),
                        "val/hard_loss": 1.0,
                        "val/soft_loss": math.nan if broken else 1.0,
                        "val/logit_std": math.nan if broken else 0.5 + 0.01 * step + 0.1 * seed,
                        "tau": config["tau"]["value"],
                        "seconds": 0.1 * step,
                        **{key: function(seed, step) for key, function in (extra or {}).items()},
                    }
                    writer.writerows([step, step * BATCH, seed, key, repr(number)] for key, number in row.items())
    if finished:
        result = {
            "versions": {"selector": "0.1.0", "torch": "2.13.0"},
            "seeds": list(seeds),
            "steps": steps[-1],
            "samples": steps[-1] * BATCH,
            "oracle_kind": oracle,
            "final": {"per_seed": [{"seed": seed, "regret": value(seed, steps[-1])} for seed in seeds]},
        }
        (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """:func:`make_run`."""
    return make_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """``run_folder(name, **options)`` writes a run to ``runs/<name>`` and returns that folder."""
    return lambda name="a", **options: make_run(tmp_path / "runs" / name, **options)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder that ``run_folder`` writes into."""
    return tmp_path / "runs"
