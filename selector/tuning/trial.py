"""One trial of a search: train with its overrides, watch it, say what it reached.

Shape legend: R seeds trained side by side.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np

from selector.composing import compose_job
from selector.errors import InvalidInput
from selector.experiment import Experiment, build_experiment
from selector.module import SelectorModule
from selector.report.statistics import iqm
from selector.run import train
from selector.training import Result
from selector.tuning.question import Objective, finite

# An intermediate value that stands for "failed": the median of finite numbers is a number.
_WORST = 1e30


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        value: the objective; inf when more than a quarter of the seeds failed.
        pruned: given up on the way; the value is that of the last validation.
        steps: optimizer steps done.
        seconds: wall time, building included.
        regrets: the R last regrets.
        per_seed: the R numbers that the value is the interquartile mean of.
    """

    value: float
    pruned: bool
    steps: int
    seconds: float
    regrets: list[float]
    per_seed: list[float]


def run_trial(
    overrides: Sequence[str], objective: Objective, hopeless: Callable[[int, float], bool] = lambda *_: False
) -> Outcome:
    """Train with ``overrides``, in memory.

    Args:
        overrides: as on train.py's command line; Hydra must have been initialised.
        objective: what the trial is judged by.
        hopeless: told the optimizer step and the interquartile mean of the regrets at every validation but the last;
            True gives the trial up.

    Raises:
        InvalidInput, HydraException, OmegaConfBaseException: for overrides that do not fit together.
    """
    began = time.perf_counter()
    cfg = compose_job(overrides)
    experiment = build(cfg, objective)
    watch = _Watch(objective, hopeless)
    result = train(cfg, experiment, callbacks=[watch])
    per_seed = measure(objective, result, cfg.max_steps)
    return Outcome(
        value=_iqm(per_seed),
        pruned=watch.gave_up,
        steps=result.steps,
        seconds=time.perf_counter() - began,
        regrets=result.metrics["regret"],
        per_seed=per_seed,
    )


def build(cfg: Any, objective: Objective) -> Experiment:
    """Build what a trial trains.

    Raises:
        InvalidInput: naming the key that is wrong, or has no place in a trial.
    """
    if cfg.accelerator.devices != 1:
        raise InvalidInput("accelerator.devices", cfg.accelerator.devices, "must be 1: a trial is one process")
    for key in ("stop_at_regret", "patience"):
        if objective.metric == "steps" and cfg[key] is not None:
            raise InvalidInput(key, cfg[key], "must be left out with objective.metric: steps, which stops by itself")
    return build_experiment(cfg)


def measure(objective: Objective, result: Result, max_steps: int) -> list[float]:
    """One number per seed, the lower the better.

    Args:
        objective: which number.
        result: of the training.
        max_steps: the budget: what a seed that does not reach the regret counts as, beside the penalty.
    """
    if objective.metric == "regret":
        return finite(result.metrics["regret"])
    assert objective.regret is not None
    assert objective.penalty is not None
    steps = [float(max_steps + objective.penalty)] * len(result.seeds)
    for record in reversed(result.history.records):
        for r, regret in enumerate(record.values.get("val/regret", [])):
            diverged = math.isnan(result.metrics["regret"][r])  # what it reached before is lost
            if record.step > 0 and regret <= objective.regret and not diverged:  # the untrained network is not "there"
                steps[r] = float(record.step)
    return steps


class _Watch(pl.Callback):
    """Stops a trial that is hopeless, or that has all it is asked for."""

    def __init__(self, objective: Objective, hopeless: Callable[[int, float], bool]) -> None:
        self.objective, self.hopeless = objective, hopeless
        self.gave_up = False
        self._reached: set[int] = set()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        assert pl_module.evaluation is not None
        regrets: list[float] = pl_module.evaluation.metrics["regret"].tolist()
        if self.objective.regret is not None:
            self._reached |= {r for r, regret in enumerate(regrets) if regret <= self.objective.regret}
            if len(self._reached) == len(regrets):
                trainer.should_stop = True
                return
        if trainer.global_step < (trainer.max_steps or 0):
            self.gave_up = self.hopeless(trainer.global_step, min(_iqm(finite(regrets)), _WORST))
            trainer.should_stop = trainer.should_stop or self.gave_up


def _iqm(values: Sequence[float]) -> float:
    return float(iqm(np.asarray(values, dtype=np.float64)))
