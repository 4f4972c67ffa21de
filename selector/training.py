"""Train a selector from plain objects: what train.py does, without Hydra.

Shape legend: R seeds trained side by side.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger
from rich.console import Console

from selector.actor_critic import check_actor_critic
from selector.calls import steps_per_call as choose_steps_per_call
from selector.checkpoints import AtomicCheckpointIO, Checkpoints, Found, Stopping, exists, newest, restore
from selector.critics.learned import LearnedCritic
from selector.divergence import AllFailed
from selector.errors import InvalidInput, check_at_least, check_positive
from selector.gradients import check_probe
from selector.history import History, read_history
from selector.items import Items
from selector.module import SelectorModule
from selector.networks import Network
from selector.optimizer import Adam, OptimizerOptions
from selector.oracle import Kind
from selector.problems import Problem
from selector.processes import cluster_plugins, is_lead
from selector.progress import TrainingProgress
from selector.quiet import quiet_libraries
from selector.recording import Recorder, SeedLogger
from selector.schedules import Constant, EntropyBonus, Schedule
from selector.stopping import Stopped, StopRequests
from selector.strategies import Strategy


@dataclass(frozen=True)
class Result:
    """What a training run reached, measured by the argmax on held-out lists.

    Attributes:
        oracle_kind: "separable" and "enumerated" are exact; "best-known" and "estimated" are not.
        seeds: the R seeds.
        steps: optimizer steps done.
        samples: lists that each seed was trained on.
        failed: seed -> the step at which its loss or gradient was no longer finite; it was frozen there, and its
            metrics are NaN.
        metrics: name -> one number per seed, of the trained network; see :func:`selector.metrics.evaluate`.
        history: all records, the first of them before training.
        seconds: time spent training, without start-up and evaluation.
    """

    oracle_kind: Kind
    seeds: tuple[int, ...]
    steps: int
    samples: int
    metrics: dict[str, list[float]]
    history: History
    seconds: float
    failed: dict[int, int] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """The mean of one metric over seeds; NaN if one of them failed."""
        return fmean(self.metrics[metric])

    @staticmethod
    def of(history: History, oracle_kind: Kind) -> "Result":
        """The result that a history ends with."""
        last = [record for record in history.records if "val/regret" in record.values][-1]
        metrics = {key.removeprefix("val/"): v for key, v in last.values.items() if key.startswith("val/")}
        seconds = last.values["seconds"][0]
        steps = zip(history.seeds, last.values.get("failed_step", []), strict=False)
        failed = {seed: int(step) for seed, step in steps if math.isfinite(step)}
        return Result(oracle_kind, tuple(history.seeds), last.step, last.samples, metrics, history, seconds, failed)


def check_fit(problem: Problem, network: Network, strategy: Strategy) -> None:
    """Refuse objects that do not belong together.

    Raises:
        InvalidInput: naming the object that does not fit.
    """
    for size in ("N", "S", "D", "C"):
        ours, theirs = getattr(network, size), getattr(problem, size)
        if ours != theirs:
            raise InvalidInput(f"network.{size}", ours, f"must be the problem's {size}, which is {theirs}")
    if problem.without_replacement and not strategy.without_replacement:
        raise InvalidInput(
            "strategy", type(strategy).__name__, "draws with replacement; problem.without_replacement needs another one"
        )
    if strategy.without_replacement and problem.S > problem.N:
        raise InvalidInput("strategy", type(strategy).__name__, f"cannot fill {problem.S} slots from {problem.N} items")
    if strategy.seeds not in (None, len(network.seeds)):
        raise InvalidInput("strategy.seeds", strategy.seeds, f"must be as many as the network's {len(network.seeds)}")
    if strategy.needs_target and problem.oracle_kind == "estimated":
        why = f"needs an exact oracle, and what is expected of {problem.critic.title} is an estimate"
        raise InvalidInput("strategy", type(strategy).__name__, why)
    if strategy.needs_target and problem.oracle_kind == "best-known":
        raise InvalidInput(
            "strategy",
            type(strategy).__name__,
            f"needs an exact oracle, and {problem.critic.title} couples the slots with N^S = "
            f"{problem.N}^{problem.S} > problem.max_enumeration = {problem.max_enumeration}",
        )


def fit(
    problem: Problem,
    network: Network,
    strategy: Strategy,
    tau: Schedule | None = None,
    *,
    steps: int = 4000,
    batch_size: int = 256,
    optimizer: OptimizerOptions | None = None,
    val_every: int = 200,
    held_out: int = 1024,
    entropy: EntropyBonus | None = None,
    probe_every: int | None = None,
    stop_at_regret: float | None = None,
    patience: int | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    checkpoints_required: bool = True,
    about: dict[str, Any] | None = None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
    console: Console | None = None,
    compile_network: bool = False,
    steps_per_call: int | None = None,
    critic: LearnedCritic | None = None,
    trainer: dict[str, Any] | None = None,
) -> tuple[Network, Result]:
    """Train the seeds of ``network`` side by side.

    Args:
        problem: items, critic and sizes.
        network: trained in place; its ``seeds`` are the R seeds.
        strategy: the gradient estimator.
        tau: temperature schedule; None is constant 1.
        steps: optimizer steps.
        batch_size: lists per seed and batch.
        optimizer: None is Adam with its defaults.
        val_every: optimizer steps between two validations.
        held_out: number of validation lists.
        entropy: bonus on the entropy of softmax(l); None is none.
        probe_every: optimizer steps between two measurements of the estimator's bias, std and cosine, recorded as
            ``grad/…``; None measures nothing. It changes nothing of the training.
        stop_at_regret: stop as soon as the mean regret over seeds is at or below it.
        patience: stop after so many validations without a lower mean regret.
        folder: gets ``metrics.csv`` and ``checkpoints/``; None keeps everything in memory.
        resume: go on from ``folder``'s newest sound checkpoint.
        checkpoints_required: whether a checkpoint that cannot be written (a full disk) ends the training.
        about: numbers and words that every checkpoint keeps, as ``about``: what made it.
        loggers: Lightning loggers.
        callbacks: further Lightning callbacks.
        console: prints progress; None is silent.
        compile_network: use ``torch.compile``.
        steps_per_call: optimizer steps that one Lightning step makes, which changes nothing but the time; None
            chooses, see :func:`selector.calls.steps_per_call`.
        critic: learned from the rewards of the problem's black box, and what the network is trained through; None: it
            is trained through the problem's critic.
        trainer: further arguments of ``lightning.pytorch.Trainer``; they win over what this function would pass.

    Returns:
        The trained network and what it reached.

    Raises:
        InvalidInput: for values out of range, and objects that do not belong together.
        Stopped: a KeyboardInterrupt, when SIGINT or SIGTERM stopped the run after a step; the folder then holds a
            checkpoint of that step. A second SIGINT raises KeyboardInterrupt at once.
        FloatingPointError: when every seed failed.
        OSError: when a file of ``folder`` could not be written.
    """
    check_fit(problem, network, strategy)
    check_actor_critic(problem, critic, strategy, trainer or {})
    check_at_least(1, steps=steps, batch_size=batch_size, val_every=val_every, held_out=held_out, patience=patience)
    check_at_least(1, probe_every=probe_every)
    check_positive(stop_at_regret=stop_at_regret)
    if probe_every is not None:
        check_probe(problem)
    folder = None if folder is None else Path(folder)
    if resume and (folder is None or not exists(folder)):
        raise InvalidInput("resume", folder, "no checkpoint is there to go on from")
    found = check_resume(folder, steps, problem.items, critic) if resume and folder is not None else None

    calls = choose_steps_per_call(
        steps_per_call,
        val_every=val_every,
        probe_every=probe_every,
        logits=len(network.seeds) * batch_size * problem.S * problem.N,
        trainer=trainer or {},
        callbacks=callbacks,
    )
    module = SelectorModule(
        problem,
        network,
        strategy,
        tau if tau is not None else Constant(value=1.0),
        optimizer if optimizer is not None else Adam(),
        batch_size=batch_size,
        val_every=val_every,
        held_out=held_out,
        max_steps=steps,
        entropy=entropy,
        compile_network=compile_network,
        steps_per_call=calls,
        critic=critic,
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    csv = None if folder is None else folder / "metrics.csv"
    history = History(network.seeds, csv, required=checkpoints_required)
    # The order matters: what a record or a stop decision changes belongs into the checkpoint of the same step.
    recorder = Recorder(history, hold=folder is not None)
    hooks: list[pl.Callback] = [recorder]
    if probe_every is not None:
        from selector.probe import GradientProbe

        hooks.append(GradientProbe(recorder, probe_every))
    if stop_at_regret is not None or patience is not None:
        hooks.append(RegretStopping(stop_at_regret, patience))
    hooks.extend(callbacks)
    if console is not None:
        hooks.append(TrainingProgress(console))

    def say(line: str) -> None:
        if console is not None:
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    hooks.append(AllFailed())  # before the checkpoint: the last good one stays
    checkpoints = None
    if folder is not None:
        checkpoints = Checkpoints(
            folder / "checkpoints", about=about, required=checkpoints_required, saved=recorder.release, say=say
        )
        hooks.append(checkpoints)
    requests = StopRequests()
    hooks.append(Stopping(requests, checkpoints))

    arguments: dict[str, Any] = {
        "max_steps": steps,
        "max_epochs": -1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": list(loggers) or False,
        "callbacks": hooks,
        "plugins": [AtomicCheckpointIO(), *cluster_plugins()],
        "enable_checkpointing": False,  # Checkpoints above does it
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,  # the untrained network is evaluated and recorded anyway
        "log_every_n_steps": val_every // calls,
        **(trainer or {}),
    }
    checkpoint = None
    if found is not None:
        if found.note is not None:
            say(found.note)
        checkpoint = restore(found) if is_lead() else found.path
    with quiet_libraries(), requests:
        lightning = pl.Trainer(**arguments)
        requests.forward = getattr(lightning.strategy.launcher, "kill", None)
        try:
            lightning.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:
            if not lightning.interrupted:
                raise
            # Lightning turns KeyboardInterrupt into exit status 1.
            if requests.stopped_at is None and (checkpoints is None or checkpoints.written):
                raise KeyboardInterrupt from None
            raise Stopped(requests.signum or Stopped().signum, requests.stopped_at) from None
    if not history.records and history.path is not None:
        # Trained in forked processes, or finished before: the records are in the file.
        history = read_history(history.path)
    result = Result.of(history, problem.oracle_kind)
    for logger in loggers:
        if isinstance(logger, SeedLogger) and lightning.is_global_zero:
            logger.summarize(result.metrics)
    return network, result


def check_resume(folder: Path, steps: int, items: Items, critic: LearnedCritic | None = None) -> Found:
    """The checkpoint to go on from.

    Raises:
        InvalidInput: when no checkpoint is sound, the run is further than it should get, or began with other items or
            another table.
    """
    found = newest(folder)
    if found.content["selector"].get("items") != items.checksum:
        raise InvalidInput(
            "items", type(items).__name__, f"the file is not the one that the run in {folder} began with"
        )
    began = found.content["selector"]
    if critic is not None and began.get("table", critic.checksum) != critic.checksum:
        raise InvalidInput("critic.table", None, f"the file is not the one that the run in {folder} began with")
    if found.step > steps:
        raise InvalidInput("max_steps", steps, f"the run in {folder} is at step {found.step} already")
    if found.step == steps and not found.content["selector"]["evaluated"]:
        raise InvalidInput("max_steps", steps, f"the run in {folder} was stopped at this very step; must be more")
    return found


class RegretStopping(EarlyStopping):
    """Lightning's early stopping on the mean regret, looked at after every validation.

    A continued run takes over what was counted, not the settings: patience may be given anew.

    Args:
        stop_at_regret: stop at or below it; None never does.
        patience: stop after so many validations without a lower regret; None never does.
    """

    def __init__(self, stop_at_regret: float | None, patience: int | None) -> None:
        super().__init__(
            monitor="regret",
            mode="min",
            patience=patience if patience is not None else sys.maxsize,
            stopping_threshold=stop_at_regret,
            check_finite=False,  # a seed that diverges must not stop the others
            check_on_train_epoch_end=False,  # Lightning ends a loaded checkpoint's epoch again, without a validation
            verbose=False,
        )
        self.newest: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was killed after its decision to stop has ended; it does not train on."""
        super().on_train_start(trainer, pl_module)
        threshold = self.stopping_threshold
        reached = self.newest is not None and threshold is not None and self.newest <= threshold
        if reached or self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self.newest = float(trainer.callback_metrics["regret"])

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "newest": self.newest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.newest = state_dict["newest"]
