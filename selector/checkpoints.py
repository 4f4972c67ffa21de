"""Checkpoints that hold all a bit-identical continuation needs, and are whole or absent."""

import os
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from selector.files import write_atomically
from selector.module import SelectorModule

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and renames: a kill at any moment leaves a whole one. Never unpickles code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ARG002
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class Checkpoints(pl.Callback):
    """After every validation: ``last.ckpt``, and ``best.ckpt`` where the mean regret over seeds is the lowest so far.

    Args:
        folder: where the checkpoints go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best: float | None = None
        self.best_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if trainer.is_global_zero:
            for torn in self.folder.glob(".*.ckpt.*.tmp"):  # left by a process that was killed while it wrote
                torn.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SelectorModule)
        assert pl_module.evaluation is not None
        if not pl_module.evaluation.metrics:  # Lightning ends the epoch of a loaded checkpoint once more
            return
        regret = float(pl_module.evaluation.metrics["regret"].nanmean())
        improved = self.best is None or regret < self.best
        if improved:
            self.best, self.best_step = regret, trainer.global_step
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        if improved and trainer.is_global_zero:
            # A second name for the same bytes: `last` is replaced by renaming, so `best` keeps them.
            temporary = self.folder / f".{BEST}.{os.getpid()}.tmp"
            temporary.unlink(missing_ok=True)
            try:
                os.link(self.folder / LAST, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.folder / LAST, temporary)
            temporary.replace(self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
