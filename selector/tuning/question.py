"""The yaml file of a search: what is fixed, what is varied, what is to be small, and for how long.

Shape legend: R seeds trained side by side.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from selector.building import construct
from selector.errors import InvalidInput, check_at_least, check_positive
from selector.tuning.space import Space, read_space

# A search decides these itself, or has no use for them: trials leave no run folder.
_NOT_FIXED = ("name", "resume", "logger", "sweeps", "hydra")


@dataclass(frozen=True)
class Objective:
    """What is to be small: the interquartile mean over seeds of one number per seed.

    Args:
        metric: "regret": that of the trained network; "steps": optimizer steps until ``regret`` was reached at a
            validation. Such a trial ends as soon as all seeds are there.
        regret: for steps: the regret to reach.
        penalty: for steps: a seed that never gets there counts as max_steps + penalty.
    """

    metric: Literal["regret", "steps"] = "regret"
    regret: float | None = None
    penalty: int | None = None

    def __post_init__(self) -> None:
        for name in ("regret", "penalty"):
            value = getattr(self, name)
            if self.metric == "steps" and value is None:
                raise InvalidInput(name, value, "must be given with metric: steps")
            if self.metric == "regret" and value is not None:
                raise InvalidInput(name, value, "is for metric: steps")
        check_positive(regret=self.regret)
        check_at_least(0, penalty=self.penalty)

    def __str__(self) -> str:
        if self.metric == "regret":
            return "regret"
        return f"steps to regret {self.regret:g} (max_steps + {self.penalty} for a seed that never gets there)"


@dataclass(frozen=True)
class Pruning:
    """When a trial is given up, judged at every validation by the interquartile mean of its seeds' regrets.

    Args:
        name: "median": its best regret so far is worse than the median of the finished trials at the same step;
            "asha": it is not among the best ``1 / factor`` of all trials at steps warmup, warmup * factor, ...;
            "none": never.
        startup: for median: trials that finish before any is given up.
        warmup: optimizer steps before a trial is given up; for asha at least 1.
        factor: for asha.
    """

    name: Literal["median", "asha", "none"] = "median"
    startup: int = 5
    warmup: int = 0
    factor: int = 3

    def __post_init__(self) -> None:
        check_at_least(0, startup=self.startup)
        check_at_least(1 if self.name == "asha" else 0, warmup=self.warmup)
        check_at_least(2, factor=self.factor)


@dataclass(frozen=True)
class _File:
    """The keys of the file; see :class:`Question`."""

    space: Any
    n_trials: int
    seeds: int
    overrides: Sequence[str] = ()
    objective: Any = None
    pruner: Any = None
    timeout: float | None = None
    sampler_seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, n_trials=self.n_trials, seeds=self.seeds)
        check_at_least(0, sampler_seed=self.sampler_seed)
        check_positive(timeout=self.timeout)


@dataclass(frozen=True)
class Question:
    """A search.

    Attributes:
        fixed: overrides of every trial, the number of seeds among them.
        seeds: R, how many are trained side by side in a trial.
        space: what is varied.
        objective: what is to be small.
        pruning: when a trial is given up.
        n_trials: trials in all, over all times that the command is run.
        timeout: seconds after which one run of the command begins no further trial; None is no limit.
        sampler_seed: of the sampler.
    """

    fixed: tuple[str, ...]
    seeds: int
    space: Space
    objective: Objective
    pruning: Pruning
    n_trials: int
    timeout: float | None
    sampler_seed: int

    def identity(self) -> dict[str, Any]:
        """What makes two trials comparable: a study may not change it."""
        return {"overrides": list(self.fixed), "space": repr(self.space), "objective": str(self.objective)}


def read_question(path: Path) -> Question:
    """Read a search's file.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except OSError as error:
        raise InvalidInput("file", path, f"cannot be read ({error.strerror})") from None
    except Exception as error:  # yaml and OmegaConf raise a dozen kinds for what is no configuration
        raise InvalidInput("file", path, f"is no yaml ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InvalidInput("file", path, "must be a mapping: overrides, seeds, n_trials, space, ...")
    file = construct(_File, {str(name): value for name, value in content.items()}, "")
    for one in file.overrides:
        _check_override(one, file)
    space = read_space(file.space, "space")
    if not space.keys:
        raise InvalidInput("space", file.space, "must vary something")
    return Question(
        fixed=(*file.overrides, f"seeds={file.seeds}"),
        seeds=file.seeds,
        space=space,
        objective=construct(Objective, _mapping(file.objective, "objective"), "objective"),
        pruning=construct(Pruning, _mapping(file.pruner, "pruner"), "pruner"),
        n_trials=file.n_trials,
        timeout=file.timeout,
        sampler_seed=file.sampler_seed,
    )


def _mapping(content: Any, key: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidInput(key, content, "must be a mapping")
    return {str(name): value for name, value in content.items()}


def _check_override(text: str, file: _File) -> None:
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException:
        raise InvalidInput("overrides", text, "must be key=value") from None
    key = re.split(r"[./@]", str(parsed.key_or_group))[0]
    if key == "seeds":
        raise InvalidInput("overrides", text, f"the number of seeds has a key of its own, and it is {file.seeds}")
    if key in _NOT_FIXED:
        raise InvalidInput("overrides", text, "a trial has no run folder, name or logger")
    if parsed.is_sweep_override():
        raise InvalidInput("overrides", text, "must be one value; several go under space, as choices")


def finite(values: Sequence[float]) -> list[float]:
    """The numbers of the seeds, with that of a seed that failed made the worst there is."""
    return [math.inf if math.isnan(value) else value for value in values]
