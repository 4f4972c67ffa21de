"""What a run measured, as it goes: a history in memory, and beside it metrics.csv and the loggers.

Shape legend: R seeds trained side by side.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl

from selector.history import History, Record, read_history
from selector.module import MeanLoss, SelectorModule

__all__ = ["History", "Record", "Recorder", "SeedLogger", "read_history"]


@runtime_checkable
class SeedLogger(Protocol):
    """A Lightning logger that keeps the seeds apart."""

    def log_seeds(self, record: Record) -> None:
        """Log one record of all seeds."""

    def summarize(self, final: dict[str, list[float]]) -> None:
        """Keep the final metrics of every seed."""


class Recorder(pl.Callback):
    """Records every validation: the metrics, the mean training loss since the last one, tau, lr and speed.

    The first record is the untrained network's; the clock counts training alone.

    Args:
        history: where records go.
        hold: keep records from the loggers until :meth:`release`. What a logger has sent cannot be taken back, and a
            run that goes on from a checkpoint repeats all records behind it.
    """

    def __init__(self, history: History, *, hold: bool = False) -> None:
        self.history = history
        self._hold = hold
        self._held: list[Record] = []
        self._seconds = 0.0
        self._clock = 0.0
        self._since = (0, 0.0)  # step and seconds of the last record

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        if not trainer.is_global_zero:
            self.history.path = None  # one process writes
        if trainer.global_step == 0:
            self.history.start()
            pl_module.evaluate()
            self._record(trainer, pl_module)
        else:
            self.history.resume(trainer.global_step)
        self._since = (trainer.global_step, self._seconds)
        self._clock = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if not trainer.sanity_checking:
            self._seconds += time.perf_counter() - self._clock

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, SelectorModule)
        self._record(trainer, pl_module)
        self._clock = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        if pl_module.evaluated_step != trainer.global_step:  # stopped within a validation period
            self.on_validation_start(trainer, pl_module)
            pl_module.evaluate()
            self.on_validation_end(trainer, pl_module)

    def _record(self, trainer: pl.Trainer, module: SelectorModule) -> None:
        assert module.evaluation is not None
        R = len(module.network.seeds)
        values = {f"val/{key}": value.tolist() for key, value in module.evaluation.metrics.items()}
        if module.actor_critic is not None and module.held_out is not None:
            values |= module.actor_critic.record(module.evaluation, module.held_out)
        loss = module.train_losses.mean()
        if loss is not None:
            values["train/loss"] = loss.tolist()
            module.recorded_loss = float(loss.nanmean())
            module.train_losses = MeanLoss()
        failed = module.divergence.failed()
        if any(failed):
            for r, step in enumerate(failed):
                if step is not None and loss is not None:
                    values["train/loss"][r] = math.nan
            values["failed_step"] = [math.nan if step is None else float(step) for step in failed]
        values["tau"] = [module.current_tau] * R
        values["lr"] = [trainer.optimizers[0].param_groups[0]["lr"]] * R
        values["seconds"] = [self._seconds] * R
        steps, seconds = trainer.global_step - self._since[0], self._seconds - self._since[1]
        if steps > 0 and seconds > 0:
            values["steps_per_s"] = [steps / seconds] * R
            values["samples_per_s"] = [steps / seconds * module.samples / trainer.global_step] * R
        self._since = (trainer.global_step, self._seconds)
        self.add(trainer, module, values)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the training clock while something else is measured."""
        self._seconds += time.perf_counter() - self._clock
        yield
        self._clock = time.perf_counter()

    def add(self, trainer: pl.Trainer, module: SelectorModule, values: dict[str, list[float]]) -> None:
        """Record ``values`` (key -> one number per seed) at the current step: in the history, and in every logger."""
        record = Record(trainer.global_step, module.samples, values)
        self.history.append(record)
        self._held.append(record)
        if not self._hold:
            self.release(trainer)

    def release(self, trainer: pl.Trainer) -> None:
        """Hand what was held back to the loggers: a checkpoint holds it now."""
        held, self._held = self._held, []
        for record in held if trainer.is_global_zero else []:
            for logger in trainer.loggers:
                if isinstance(logger, SeedLogger):
                    logger.log_seeds(record)
                else:
                    means = {key: sum(v) / len(v) for key, v in record.values.items()}
                    logger.log_metrics({**means, "samples": record.samples}, step=record.step)

    def state_dict(self) -> dict[str, Any]:
        running = time.perf_counter() - self._clock if self._clock else 0.0
        return {"seconds": self._seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = state_dict["seconds"]
