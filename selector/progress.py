"""How far training is: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from selector.module import SelectorModule


class TrainingProgress(pl.Callback):
    """Loss, regret, tau and steps/s while training.

    Lightning's own bar counts epochs, which mean nothing here; this one counts optimizer steps.

    Args:
        console: where to print; a bar if it is a terminal, one line per validation if not.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._shown = 0.0
        self._start = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._start = (time.perf_counter(), trainer.global_step)
        if self.console.is_terminal and trainer.is_global_zero:
            self._bar = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                console=self.console,
                auto_refresh=False,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, status="")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # Reading the loss waits for the device: a few times a second, not at every step.
        if self._bar is not None and time.perf_counter() - self._shown > 0.2:
            assert isinstance(pl_module, SelectorModule)
            self._shown = time.perf_counter()
            self._bar.update(self._task, completed=trainer.global_step, status=self._status(trainer, pl_module))
            self._bar.refresh()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        if self._bar is None and trainer.is_global_zero:
            line = f"step {trainer.global_step}/{trainer.max_steps}  {self._status(trainer, pl_module)}"
            self.console.print(line, highlight=False)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, status=self._status(trainer, pl_module))
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _status(self, trainer: pl.Trainer, module: SelectorModule) -> str:
        running = module.train_losses.mean()
        loss = module.recorded_loss if running is None else float(running.nanmean())
        parts = [f"loss {loss:.4g}"] if loss is not None else []
        if module.evaluation is not None and module.evaluation.metrics:
            parts.append(f"regret {module.evaluation.metrics['regret'].nanmean():.4f}")
        seconds, step = time.perf_counter() - self._start[0], trainer.global_step - self._start[1]
        parts.append(f"tau {module.current_tau:.3g}")
        parts.append(f"{step / seconds:.0f} steps/s" if seconds > 0 else "")
        return "  ".join(parts)
