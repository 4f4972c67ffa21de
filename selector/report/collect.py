"""Find finished and unfinished runs, read what they measured, and sort their seeds by what was compared.

A run folder is what ``train.py`` leaves behind: ``.hydra/`` with ``metrics.csv`` and, when it ended, ``result.json``.
Seeds trained side by side and seeds of separate jobs are treated alike: what counts is the *label*, the strategy and
every other setting that differs. Imports neither torch nor Lightning.

Shape legend: T records of one seed.
"""

import csv
import json
import math
import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
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

# Where two runs may differ and still be seeds of the same thing.
_NOT_COMPARED = {"name", "seed", "seeds", "resume", "logger", "accelerator", "val_every", "held_out", "patience"}
_NOT_COMPARED |= {"stop_at_regret", "hydra"}
# What makes another problem; the rest of the settings makes another label.
_PROBLEM = ("problem", "items", "critic", "reward")
_GROUPS = ("strategy", "problem", "items", "critic", "reward", "network", "tau", "optimizer")
_MISSING = object()


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
class Group:
    """All seeds of one label on one problem.

    Attributes:
        label: strategy and what else differs, such as "st_gumbel · network=pointer".
        strategy: the strategy's name in configs/strategy.
        family: the label without its tau settings: labels of one family differ in tau alone.
        tau: what the temperature was; None when no record says.
        seeds: one entry per seed, ascending.
    """

    label: str
    strategy: str
    family: str
    tau: Tau | None
    seeds: Sequence[SeedRun]


@dataclass(frozen=True)
class Section:
    """Everything that was run on one problem.

    Attributes:
        title: the problem's name and what sets it apart from the others.
        groups: in the order of their labels.
        oracles: the kinds of oracle that the runs name; "best-known" is not exact.
        notes: what a reader must know, one line each.
    """

    title: str
    groups: Sequence[Group]
    oracles: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Collection:
    """What was found.

    Attributes:
        sections: one per problem.
        runs: number of run folders read.
        versions: package -> versions that the runs were made with.
        notes: what a reader must know beyond single sections, one line each.
    """

    sections: Sequence[Section]
    runs: int
    versions: Mapping[str, Sequence[str]]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Run:
    folder: Path
    choices: Mapping[str, str]
    settings: Mapping[str, Any]  # leaves by dotted key
    overridden: frozenset[str]  # keys and groups that its command line named
    oracle: str | None
    versions: Mapping[str, str]
    tau: Tau | None
    seeds: Sequence[SeedRun]
    written: float  # when its newest file was; only to order repetitions


def collect(folders: Sequence[Path]) -> Collection:
    """Read all runs below ``folders``.

    Raises:
        InvalidInput: when a folder is missing or holds no run, or a file in a run folder cannot be read.
    """
    runs, notes, seen = [], [], set()
    for folder in folders:
        if not folder.is_dir():
            raise InvalidInput("folder", folder, "no such folder; must be a run folder or one that holds runs")
        found = list(_run_folders(folder))
        if not any(why is None for _, why in found):
            reason = f" ({found[0][0]}: {found[0][1]})" if found else ""
            raise InvalidInput("folder", folder, f"no run is here or below it{reason}")
        for path, why_not in found:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if why_not is None:
                runs.append(_read_run(path))
            else:
                notes.append(f"{path} was left out: {why_not}.")
    sections = _sections(runs)
    names = sorted({name for run in runs for name in run.versions})
    versions = {name: sorted({run.versions[name] for run in runs if name in run.versions}) for name in names}
    different = [f"{name} {' and '.join(found)}" for name, found in versions.items() if len(found) > 1]
    if different:
        notes.append(f"The runs were made with different versions: {'; '.join(different)}.")
    return Collection(sections, len(runs), versions, notes)


# ---- finding and reading -------------------------------------------------------------------------------------------


def _run_folders(top: Path) -> Iterator[tuple[Path, str | None]]:
    """(folder, None) for run folders and (folder, reason) for what only looks like one, in alphabetical order."""
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if ".hydra" in folders or "metrics.csv" in files or "result.json" in files:
            folders.clear()
            missing = [f for f in ("config.yaml", "hydra.yaml") if not (folder / ".hydra" / f).is_file()]
            yield folder, f".hydra/{missing[0]} is missing" if missing else None
        else:
            folders[:] = sorted(f for f in folders if not f.startswith("."))


def _read_run(folder: Path) -> _Run:
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
    return _Run(folder, choices, settings, overridden, oracle, versions, tau, trained, max(written, default=0.0))


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


# ---- labels --------------------------------------------------------------------------------------------------------


def _sections(runs: Sequence[_Run]) -> list[Section]:
    by_problem: dict[str, list[_Run]] = {}
    for run in runs:
        by_problem.setdefault(_fingerprint(run, _PROBLEM), []).append(run)
    parts = list(by_problem.values())
    problem_keys = _problem_keys(runs)
    label_keys = _label_keys(parts)
    tau_keys = {key: _strategies_with(parts, key) for key in label_keys if key.split(".")[0] == "tau"}
    sections = [_section(_title(part[0], problem_keys), part, label_keys, tau_keys) for part in parts]
    return sorted(sections, key=lambda section: _natural(section.title))


def _section(
    title: str, runs: Sequence[_Run], label_keys: Sequence[str], tau_keys: Mapping[str, Container[str]]
) -> Section:
    notes: list[str] = []
    members: dict[str, list[_Run]] = {}
    for run in runs:
        shown = [key for key in label_keys if key not in tau_keys or run.choices["strategy"] in tau_keys[key]]
        members.setdefault(_label(run, shown), []).append(run)
    groups = []
    for label in sorted(members, key=_natural):
        one = members[label][0]
        family = _label(one, [key for key in label_keys if key not in tau_keys])
        tau = next((run.tau for run in members[label] if run.tau is not None), None)
        seeds = _without_repetitions(label, members[label], notes)
        groups.append(Group(label, one.choices["strategy"], family, tau, seeds))
    planned = sorted({seed.planned for group in groups for seed in group.seeds})
    if len(planned) > 1:
        each = ", ".join(f"{samples:,}" for samples in planned)
        notes.append(f"Budgets differ ({each} samples per seed): final regrets are those at each run's own end.")
    for key, what in (("held_out", "held-out lists"), ("stop_at_regret", "stop_at_regret"), ("patience", "patience")):
        values = sorted({str(run.settings.get(key)) for run in runs}, key=_natural)
        if len(values) > 1:
            notes.append(f"The runs differ in {what}: {', '.join(values)}.")
    without = sorted({str(s.folder) for g in groups for s in g.seeds if not len(s.samples) and s.failure is None})
    if without:
        notes.append(f"No curve, final numbers only (no metrics.csv): {', '.join(without)}.")
    oracles = sorted({run.oracle for run in runs if run.oracle is not None})
    return Section(title, groups, oracles, notes)


def _without_repetitions(label: str, runs: Sequence[_Run], notes: list[str]) -> list[SeedRun]:
    """One entry per seed. A repetition is no new evidence: one that ended counts rather than one that did not, a
    later one rather than an earlier one."""
    chosen: dict[int, SeedRun] = {}
    repeated: dict[tuple[Path, Path], list[int]] = {}
    found = [(seed.ended, run.written, str(run.folder), seed) for run in runs for seed in run.seeds]
    for *_, one in sorted(found, key=lambda entry: entry[:3]):
        if one.seed in chosen:
            repeated.setdefault((one.folder, chosen[one.seed].folder), []).append(one.seed)
        chosen[one.seed] = one
    for (used, left), seeds in repeated.items():
        numbers = ", ".join(map(str, sorted(seeds)))
        word = "seed" if len(seeds) == 1 else "seeds"
        notes.append(f"{label}: {word} {numbers} found twice; {used} counts, {left} does not.")
    return [chosen[seed] for seed in sorted(chosen)]


def _setting(run: _Run, key: str) -> Any:
    return run.choices.get(key, _MISSING) if key in _GROUPS else run.settings.get(key, _MISSING)


def _fingerprint(run: _Run, groups: Sequence[str]) -> str:
    settings = {key: value for key, value in run.settings.items() if key.split(".")[0] in groups}
    return json.dumps([run.choices["problem"], settings], sort_keys=True, default=str)


def _differ(runs: Sequence[_Run], key: str) -> bool:
    return len({json.dumps(_setting(run, key), default=str) for run in runs if _setting(run, key) is not _MISSING}) > 1


def _problem_keys(runs: Sequence[_Run]) -> list[str]:
    """Settings that tell apart the problems of one name."""
    keys = sorted({key for run in runs for key in run.settings if key.split(".")[0] in _PROBLEM})
    named: dict[str, list[_Run]] = {}
    for run in runs:
        named.setdefault(run.choices["problem"], []).append(run)
    choices = [key for key in ("items", "critic") if any(_differ(same, key) for same in named.values())]
    leaves = [key for key in keys if any(_differ(same, key) for same in named.values())]
    return choices + [key for key in leaves if key.split(".")[0] not in choices]


def _label_keys(sections: Sequence[Sequence[_Run]]) -> list[str]:
    """Groups and settings that belong into labels: those in which runs of one problem differ; of the temperature
    only what does not follow from the strategy, whose yaml chooses one."""
    every = {key for runs in sections for run in runs for key in run.settings}
    ours = {key for key in every if key.split(".")[0] not in (*_NOT_COMPARED, *_PROBLEM)}
    if "accelerator.precision" in every:
        ours.add("accelerator.precision")
    groups = [group for group in _GROUPS if group not in ("strategy", *_PROBLEM)]
    found = [group for group in groups if any(_matters(runs, group) for runs in sections)]
    for key in sorted(ours - set(_GROUPS)):
        group = key.split(".")[0]
        if key.endswith("._target_"):
            continue
        for runs in sections:
            # Within one choice of the group: the options of another class are another matter.
            alike: dict[str, list[_Run]] = {}
            for run in runs:
                alike.setdefault(str(run.choices.get(group)), []).append(run)
            if any(_matters(same, key) for same in alike.values()):
                found.append(key)
                break
    return found


def _matters(runs: Sequence[_Run], key: str) -> bool:
    if not _differ(runs, key):
        return False
    if key.split(".")[0] != "tau" or any(key in run.overridden for run in runs):
        return True
    by_strategy: dict[str, list[_Run]] = {}
    for run in runs:
        by_strategy.setdefault(run.choices["strategy"], []).append(run)
    return any(_differ(same, key) for same in by_strategy.values())


def _strategies_with(sections: Sequence[Sequence[_Run]], key: str) -> set[str]:
    """The strategies whose labels name ``key``: their runs differ in it, or one of them was asked for another one."""
    found = set()
    for strategy in {run.choices["strategy"] for runs in sections for run in runs}:
        for runs in sections:
            same = [run for run in runs if run.choices["strategy"] == strategy]
            if _differ(same, key) or any(key in run.overridden for run in same):
                found.add(strategy)
    return found


def _label(run: _Run, keys: Sequence[str]) -> str:
    return " · ".join([run.choices["strategy"], *_shown(run, keys)])


def _title(run: _Run, keys: Sequence[str]) -> str:
    return " · ".join([run.choices["problem"], *_shown(run, keys)])


def _shown(run: _Run, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        value = _setting(run, key)
        if key == "tau" and value == "constant" and "tau.value" in keys:
            continue  # tau.value says it
        reference = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
        if reference is not None:
            value = run.settings.get(reference[1], value)
        if value is not _MISSING:
            yield f"{key}={value}"


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key with numbers by their size: tau=0.5 before tau=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]
