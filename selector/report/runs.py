"""Read what a run measured, seed by seed, from the files that ``train.py`` leaves behind.

A run folder holds ``.hydra/`` with ``metrics.csv`` and, when the run ended, ``result.json``. Imports neither torch nor
Lightning.

Shape legend: T records of one seed · R seeds trained side by side.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from selector.errors import InvalidInput
from selector.history import History, read_history
from selector.report.statistics import Floats

REGRET, SPREAD = "val/regret", "val/logit_std"
GRADIENT = ("grad/bias", "grad/std", "grad/cosine")
# A network that went NaN still has an argmax: its regret looks like a number, so these are looked at too.
_CHECKED = (REGRET, "val/hard_loss", "val/soft_loss", SPREAD)
_KEYS = frozenset({*_CHECKED, *GRADIENT, "tau", "seconds"})


@dataclass(frozen=True)
class SeedRun:
    """What one seed of one run measured.

    Attributes:
        seed: the seed.
        folder: the run folder.
        samples: ``[T]``, lists trained on at each record; empty when only the final numbers are known.
        seconds: ``[T]``, training time at each record; shared by all seeds that were trained side by side.
        series: key -> ``[T]``, NaN where it was not recorded; a regret is ``inf`` from where the seed failed.
        final: the last regret; ``inf`` for a seed that failed.
        failure: why the seed counts as failed; None if it does not.
        ended: whether it was trained to its end, well or not.
        planned: samples that it was meant to train on.
        companions: seeds that were trained side by side in its run, itself included.
    """

    seed: int
    folder: Path
    samples: Floats
    seconds: Floats
    series: Mapping[str, Floats]
    final: float
    failure: str | None
    ended: bool
    planned: int
    companions: int


@dataclass(frozen=True)
class Tau:
    """The temperature of a label: its schedule's name in configs/tau, and tau at the first and last record."""

    schedule: str
    first: float
    last: float


@dataclass(frozen=True)
class Run:
    """What one run folder says.

    Attributes:
        folder: the run folder.
        choices: group -> the choice of it.
        settings: leaves of the configuration by dotted key.
        overridden: keys and groups that its command line named.
        oracle: which kind of oracle its regrets were measured with; None when it did not end.
        versions: package -> version.
        tau: what the temperature was; None when no record says.
        seeds: one entry per seed, ascending.
        written: when its newest file was; only to order repetitions.
    """

    folder: Path
    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    overridden: frozenset[str]
    oracle: str | None
    versions: Mapping[str, str]
    tau: Tau | None
    seeds: Sequence[SeedRun]
    written: float


def run_folders(top: Path) -> Iterator[tuple[Path, str | None]]:
    """(folder, None) for run folders and (folder, reason) for what only looks like one, in alphabetical order."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if ".hydra" in folders or "metrics.csv" in files or "result.json" in files:
            folders.clear()
            missing = [f for f in ("config.yaml", "hydra.yaml") if not (folder / ".hydra" / f).is_file()]
            yield folder, f".hydra/{missing[0]} is missing" if missing else None
        else:
            folders[:] = sorted(f for f in folders if not f.startswith("."))


def read_run(folder: Path) -> Run:
    """What a run folder says of its run.

    Raises:
        InvalidInput: when a file in it cannot be read, or says nothing of a run.
    """
    hydra = _read_yaml(folder / ".hydra" / "hydra.yaml")
    settings = dict(_leaves(_read_yaml(folder / ".hydra" / "config.yaml")))
    try:
        node = hydra["hydra"]
        choices = {str(k): str(v) for k, v in node["runtime"]["choices"].items() if v is not None}
        overrides = [str(o) for o in node["overrides"]["task"]]
        first, count = int(settings["seed"]), int(settings["seeds"])
        accumulate = int(settings.get("trainer.accumulate_grad_batches") or 1)
        planned = int(settings["max_steps"]) * int(settings["batch_size"]) * accumulate
        if "strategy" not in choices or "problem" not in choices:
            raise KeyError("strategy")
    except (KeyError, TypeError, ValueError):
        raise InvalidInput("folder", folder, ".hydra/ does not describe a run of train.py") from None
    result = _read_result(folder / "result.json")
    history = _read_metrics(folder / "metrics.csv")
    seeds = range(first, first + count)
    tables = {} if history is None else {key: _table(history, key) for key in _KEYS}
    trained = [_seed_run(folder, seed, count, planned, settings, history, tables, result) for seed in seeds]
    taus = history.series("tau")[1] if history is not None else []
    tau = Tau(choices.get("tau", "?"), taus[0][0], taus[-1][0]) if taus else None
    overridden = frozenset(re.sub(r"^[+~]*", "", o).split("=")[0].split("@")[0] for o in overrides)
    written = [p.stat().st_mtime for p in (folder / "metrics.csv", folder / "result.json") if p.is_file()]
    versions = {str(k): str(v) for k, v in (result.get("versions") or {}).items()}
    oracle = result.get("oracle_kind")
    return Run(folder, choices, settings, overridden, oracle, versions, tau, trained, max(written, default=0.0))


def _seed_run(
    folder: Path,
    seed: int,
    companions: int,
    planned: int,
    settings: Mapping[str, Any],
    history: History | None,
    tables: Mapping[str, Floats],
    result: Mapping[str, Any],
) -> SeedRun:
    nothing = np.empty(0)

    def unmeasured(final: float, failure: str | None) -> SeedRun:
        return SeedRun(seed, folder, nothing, nothing, {}, final, failure, bool(result), planned, companions)

    if history is None or not history.records or seed not in history.seeds:
        try:
            row = next(row for row in result["final"]["per_seed"] if row["seed"] == seed)
            final = float(row["regret"])
        except (KeyError, StopIteration, TypeError, ValueError):
            why = "recorded nothing" if (folder / "metrics.csv").is_file() else "wrote no metrics.csv"
            return unmeasured(math.inf, f"failed: it {why}")
        if all(math.isfinite(row.get(key.removeprefix("val/"), 0.0)) for key in _CHECKED):
            return unmeasured(final, None)
        return unmeasured(math.inf, "failed: its result is not a finite number")

    column = list(history.seeds).index(seed)
    measured = np.flatnonzero([REGRET in record.values for record in history.records])
    if not len(measured):
        return unmeasured(math.inf, "failed: it recorded no regret")
    series = {key: table[:, column] for key, table in tables.items() if len(table)}
    samples = np.array([record.samples for record in history.records], dtype=np.float64)
    seconds = series.pop("seconds", np.full(len(samples), np.nan))
    last = history.records[measured[-1]]
    failure = None
    ended = last.step >= int(settings["max_steps"]) or int(result.get("steps", -1)) >= last.step
    if not ended:
        failure = f"unfinished: {last.samples:,} of {planned:,} samples"
    keys = [key for key in _CHECKED if key in last.values]
    sound = np.all([np.isfinite(series[key][measured]) for key in keys], axis=0)
    regret = series[REGRET].copy()
    if not sound[-1]:
        broken = measured[len(sound) - int(np.argmax(sound[::-1])) if sound.any() else 0]
        which = next(key for key in keys if not math.isfinite(last.values[key][column]))
        failure = f"failed: {which} is {last.values[which][column]:g} from sample {int(samples[broken]):,} on"
        if math.isfinite(step := last.values.get("failed_step", [math.nan] * len(history.seeds))[column]):
            failure = f"failed at step {int(step)}: its loss or gradient was not finite"
        regret[measured[measured >= broken]] = np.inf
    # A passing NaN has no place in a curve of ranks either; a -inf would win every comparison.
    regret[measured[~np.isfinite(regret[measured])]] = np.inf
    series[REGRET] = regret
    final = math.inf if failure else float(regret[measured[-1]])
    return SeedRun(seed, folder, samples, seconds, series, final, failure, ended, planned, companions)


def _table(history: History, key: str) -> Floats:
    """``[records, R]`` with NaN where a record lacks ``key``; empty when all do."""
    if not any(key in record.values for record in history.records):
        return np.empty((0, 0))
    absent = [math.nan] * len(history.seeds)
    return np.array([record.values.get(key, absent) for record in history.records], dtype=np.float64)


def _read_metrics(path: Path) -> History | None:
    if not path.is_file():
        return None
    try:
        return read_history(path, _KEYS)
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInput("file", path, f"cannot be read as a metrics.csv ({_line(error)})") from None


def _read_result(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput("file", path, f"cannot be read as JSON ({_line(error)})") from None
    if not isinstance(content, dict):
        raise InvalidInput("file", path, "is not a result of train.py")
    return content


def _read_yaml(path: Path) -> Mapping[str, Any]:
    # Not OmegaConf.load: it takes ten times as long, and no interpolation has to be resolved here.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(), loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidInput("file", path, f"cannot be read as YAML ({_line(error)})") from None
    if not isinstance(content, dict):
        raise InvalidInput("file", path, "is not a configuration of train.py")
    return content


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node
