"""What was compared with what: sorting runs by their problem, and naming them by the settings in which they differ."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from selector.report.runs import Run

# Where two runs may differ and still be seeds of the same thing.
_NOT_COMPARED = {"name", "seed", "seeds", "resume", "logger", "accelerator", "val_every", "held_out", "patience"}
_NOT_COMPARED |= {"stop_at_regret", "hydra"}
# What makes another problem; the rest of the settings makes another label.
_PROBLEM = ("problem", "items", "critic", "reward")
_GROUPS = ("strategy", "problem", "items", "critic", "reward", "network", "tau", "optimizer")
_MISSING = object()


class Names:
    """What to call runs: no more than it takes to tell those apart that differ.

    Args:
        problems: the runs on each problem.
    """

    def __init__(self, problems: Sequence[Sequence[Run]]) -> None:
        self._problem = _problem_keys([run for runs in problems for run in runs])
        self._label = _label_keys(problems)
        self._tau = {key: _strategies_with(problems, key) for key in self._label if key.split(".")[0] == "tau"}

    def title(self, run: Run) -> str:
        """What the run's problem is called."""
        return " · ".join([run.choices["problem"], *_shown(run, self._problem)])

    def label(self, run: Run) -> str:
        """The strategy and every other setting that differs: runs of one label are seeds of the same thing."""
        strategy = run.choices["strategy"]
        keys = [key for key in self._label if key not in self._tau or strategy in self._tau[key]]
        return " · ".join([strategy, *_shown(run, keys)])

    def family(self, run: Run) -> str:
        """The label without its tau settings."""
        return " · ".join([run.choices["strategy"], *_shown(run, [key for key in self._label if key not in self._tau])])


def by_problem(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs on each problem, in the order in which the problems are met."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if key.split(".")[0] in _PROBLEM}
        fingerprint = json.dumps([run.choices["problem"], settings], sort_keys=True, default=str)
        found.setdefault(fingerprint, []).append(run)
    return list(found.values())


def natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key with numbers by their size: tau=0.5 before tau=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


def _setting(run: Run, key: str) -> Any:
    return run.choices.get(key, _MISSING) if key in _GROUPS else run.settings.get(key, _MISSING)


def _differ(runs: Sequence[Run], key: str) -> bool:
    return len({json.dumps(_setting(run, key), default=str) for run in runs if _setting(run, key) is not _MISSING}) > 1


def _problem_keys(runs: Sequence[Run]) -> list[str]:
    """Settings that tell apart the problems of one name."""
    keys = sorted({key for run in runs for key in run.settings if key.split(".")[0] in _PROBLEM})
    named: dict[str, list[Run]] = {}
    for run in runs:
        named.setdefault(run.choices["problem"], []).append(run)
    choices = [key for key in ("items", "critic") if any(_differ(same, key) for same in named.values())]
    leaves = [key for key in keys if any(_differ(same, key) for same in named.values())]
    return choices + [key for key in leaves if key.split(".")[0] not in choices]


def _label_keys(problems: Sequence[Sequence[Run]]) -> list[str]:
    """Groups and settings that belong into labels: those in which runs of one problem differ; of the temperature
    only what does not follow from the strategy, whose yaml chooses one."""
    every = {key for runs in problems for run in runs for key in run.settings}
    ours = {key for key in every if key.split(".")[0] not in (*_NOT_COMPARED, *_PROBLEM)}
    if "accelerator.precision" in every:
        ours.add("accelerator.precision")
    groups = [group for group in _GROUPS if group not in ("strategy", *_PROBLEM)]
    found = [group for group in groups if any(_matters(runs, group) for runs in problems)]
    for key in sorted(ours - set(_GROUPS)):
        group = key.split(".")[0]
        if key.endswith("._target_"):
            continue
        for runs in problems:
            # Within one choice of the group: the options of another class are another matter.
            alike: dict[str, list[Run]] = {}
            for run in runs:
                alike.setdefault(str(run.choices.get(group)), []).append(run)
            if any(_matters(same, key) for same in alike.values()):
                found.append(key)
                break
    return found


def _matters(runs: Sequence[Run], key: str) -> bool:
    if not _differ(runs, key):
        return False
    if key.split(".")[0] != "tau" or any(key in run.overridden for run in runs):
        return True
    by_strategy: dict[str, list[Run]] = {}
    for run in runs:
        by_strategy.setdefault(run.choices["strategy"], []).append(run)
    return any(_differ(same, key) for same in by_strategy.values())


def _strategies_with(problems: Sequence[Sequence[Run]], key: str) -> set[str]:
    """The strategies whose labels name ``key``: their runs differ in it, or one of them was asked for another one."""
    found = set()
    for strategy in {run.choices["strategy"] for runs in problems for run in runs}:
        for runs in problems:
            same = [run for run in runs if run.choices["strategy"] == strategy]
            if _differ(same, key) or any(key in run.overridden for run in same):
                found.add(strategy)
    return found


def _shown(run: Run, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        value = _setting(run, key)
        if key == "tau" and value == "constant" and "tau.value" in keys:
            continue  # tau.value says it
        reference = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
        if reference is not None:
            value = run.settings.get(reference[1], value)
        if value is not _MISSING:
            yield f"{key}={value}"
