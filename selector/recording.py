"""What a run measured, as it goes: a history in memory, and beside it metrics.csv and the loggers.

Shape legend: R seeds trained side by side.
"""

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl

from selector.files import write_atomically
from selector.module import MeanLoss, SelectorModule

HEADER = ["step", "samples", "seed", "key", "value"]


@dataclass(frozen=True)
class Record:
    """All metrics of one moment: key -> one number per seed."""

    step: int
    samples: int
    values: dict[str, list[float]]


@runtime_checkable
class SeedLogger(Protocol):
    """A Lightning logger that keeps the seeds apart."""

    def log_seeds(self, record: Record) -> None:
        """Log one record of all seeds."""

    def summarize(self, final: dict[str, list[float]]) -> None:
        """Keep the final metrics of every seed."""


@dataclass
class History:
    """Records in the order of their steps, mirrored to a csv file in long format (step, samples, seed, key, value).

    Args:
        seeds: the R seeds.
        path: the csv file; None keeps the history in memory only.
    """

    seeds: Sequence[int]
    path: Path | None = None
    records: list[Record] = field(default_factory=list)

    def start(self) -> None:
        """Begin an empty file."""
        self._write_all()

    def resume(self, step: int) -> None:
        """Continue a file that another process began: what it recorded after ``step`` is dropped."""
        if self.path is not None and self.path.exists():
            self.records = [r for r in read_history(self.path).records if r.step <= step]
        self._write_all()

    def append(self, record: Record) -> None:
        """Add a record, and its rows to the file at once."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a", newline="") as f:
                csv.writer(f).writerows(self._rows(record))

    def series(self, key: str) -> tuple[list[int], list[list[float]]]:
        """(samples, values per seed) of every record that has ``key``."""
        found = [r for r in self.records if key in r.values]
        return [r.samples for r in found], [r.values[key] for r in found]

    def seconds_at(self, step: int) -> float:
        """Training time until ``step``."""
        return max((r.values["seconds"][0] for r in self.records if r.step <= step), default=0.0)

    def _rows(self, record: Record) -> list[list[Any]]:
        return [
            [record.step, record.samples, seed, key, repr(value)]
            for key, values in record.values.items()
            for seed, value in zip(self.seeds, values, strict=True)
        ]

    def _write_all(self) -> None:
        if self.path is None:
            return
        with write_atomically(self.path) as temporary, temporary.open("w", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(HEADER)
            for record in self.records:
                writer.writerows(self._rows(record))


def read_history(path: Path) -> History:
    """Read a metrics.csv; an incomplete last line, as a crash leaves it, is ignored.

    Raises:
        ValueError: when the file is not a metrics.csv.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    # A last line without its end may hold half a number, which would be read as another number.
    rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not rows or rows[0] != HEADER:
        raise ValueError(f"{path} does not start with {','.join(HEADER)}")
    seeds: list[int] = []
    found: dict[int, tuple[int, dict[str, dict[int, float]]]] = {}
    for row in rows[1:]:
        try:
            step, samples, seed, value = int(row[0]), int(row[1]), int(row[2]), float(row[4])
        except (ValueError, IndexError):
            continue
        if seed not in seeds:
            seeds.append(seed)
        found.setdefault(step, (samples, {}))[1].setdefault(row[3], {})[seed] = value
    records = []
    for step, (samples, keys) in sorted(found.items()):
        complete = {key: [v[s] for s in seeds] for key, v in keys.items() if len(v) == len(seeds)}
        records.append(Record(step, samples, complete))
    return History(seeds, path, records)


class Recorder(pl.Callback):
    """Records every validation: the metrics, the mean training loss since the last one, tau, lr and speed.

    The first record is the untrained network's; the clock counts training alone.

    Args:
        history: where records go.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._seconds = 0.0
        self._clock = 0.0
        self._since = (0, 0.0)  # step and seconds of the last record

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        if trainer.global_step == 0:
            if trainer.is_global_zero:
                self.history.start()
            pl_module.evaluate()
            self._record(trainer, pl_module)
        elif trainer.is_global_zero:
            self.history.resume(trainer.global_step)
        self._since = (trainer.global_step, self._seconds)
        self._clock = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._seconds += time.perf_counter() - self._clock

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
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
        loss = module.train_losses.mean()
        if loss is not None:
            values["train/loss"] = loss.tolist()
            module.train_losses = MeanLoss()
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
        """Record ``values`` (key -> one number per seed) at the current step, in the history and in every logger."""
        if not trainer.is_global_zero:
            return
        record = Record(trainer.global_step, module.samples, values)
        self.history.append(record)
        for logger in trainer.loggers:
            if isinstance(logger, SeedLogger):
                logger.log_seeds(record)
            else:
                means = {key: sum(v) / len(v) for key, v in values.items()}
                logger.log_metrics({**means, "samples": record.samples}, step=record.step)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = state_dict["seconds"]
