"""Checkpoints that hold all a bit-identical continuation needs, and are whole or absent."""

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from selector.errors import InvalidInput
from selector.files import link, write_atomically
from selector.loading import DamagedCheckpoint, read_checkpoint
from selector.module import SelectorModule
from selector.stopping import Stopped, StopRequests

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

# What a continuation reads: Lightning's parts of a checkpoint, those of SelectorModule, and of Divergence.
_LIGHTNING = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict}
_OWN = {"noise": dict, "train_losses": list | tuple, "max_steps": int, "evaluated": bool, "divergence": dict}
_DIVERGENCE = dict.fromkeys(("alive", "failed_step", "largest"), torch.Tensor)


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from.

    Attributes:
        path: the file.
        step: the optimizer step it was written at.
        content: what it holds.
        note: one line about newer ones that are damaged; None if there are none.
    """

    path: Path
    step: int
    content: dict[str, Any]
    note: str | None = None


def exists(folder: Path) -> bool:
    """Whether a run folder holds a checkpoint, sound or not."""
    return any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS, BEST))


def newest(folder: Path) -> Found:
    """The newest sound checkpoint of a run folder: the last one, else the one before it, else the best one.

    Raises:
        InvalidInput: when there is none.
    """
    damaged = []
    for name in (LAST, PREVIOUS, BEST):
        path = folder / "checkpoints" / name
        try:
            content = _complete(path)
        except DamagedCheckpoint as error:
            damaged.append(str(error))
            continue
        step = int(content["global_step"])
        note = f"{'; '.join(damaged)}: going on from {name}, step {step}" if damaged else None
        return Found(path, step, content, note)
    raise InvalidInput("resume", folder, f"no sound checkpoint is there to go on from: {'; '.join(damaged)}")


def restore(found: Found) -> Path:
    """Give a checkpoint that was found behind damaged ones the place of the last one, and take these away.

    Returns:
        The path of the last checkpoint.
    """
    last = found.path.with_name(LAST)
    if found.path != last:
        link(found.path, last)
        for name in (PREVIOUS, BEST):
            try:
                _complete(found.path.with_name(name))
            except DamagedCheckpoint:
                found.path.with_name(name).unlink(missing_ok=True)
    return last


def _complete(path: Path) -> dict[str, Any]:
    """A checkpoint with all that a continuation needs.

    Raises:
        DamagedCheckpoint: when it is damaged, or a part is not there.
    """
    content = read_checkpoint(path)
    own = content["selector"]
    for state, parts in ((content, _LIGHTNING), (own, _OWN), (own.get("divergence"), _DIVERGENCE)):
        for part, kind in parts.items():
            if not isinstance(state, dict) or not isinstance(state.get(part), kind):
                raise DamagedCheckpoint(path, f"cannot be gone on from: {part} is missing")
    return content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and renames: a kill at any moment leaves a whole one. Never unpickles code.

    What ``last.ckpt`` held becomes ``previous.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ARG002 - Lightning's
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch does not say what went wrong when it writes a file itself: the disk is full, say
        torch.save(checkpoint, content)
        previous = path.with_name(PREVIOUS) if path.name == LAST else None
        with write_atomically(path, previous) as temporary, temporary.open("wb") as f:
            f.write(content.getbuffer())


class Checkpoints(pl.Callback):
    """After every validation: ``last.ckpt``, and ``best.ckpt`` where the mean regret over seeds is the lowest so far.

    The last one before stays as ``previous.ckpt``.

    Args:
        folder: where the checkpoints go.
        about: what every checkpoint keeps under this name.
        required: whether an error in writing one ends the training; if not, it goes on, and tries again next time.
        saved: called whenever a checkpoint was written, and when the training goes on without.
        say: prints a line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        about: dict[str, Any] | None = None,
        required: bool = True,
        saved: Callable[[pl.Trainer], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder, self.about = folder, about or {}
        self.required, self.saved, self.say = required, saved, say
        self.best: float | None = None
        self.best_step = 0
        self._failing = False

    @property
    def written(self) -> bool:
        """Whether the newest attempt to write one did."""
        return not self._failing

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's
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
        self.save(trainer, best=improved)

    def save(self, trainer: pl.Trainer, *, best: bool = False) -> bool:
        """Write ``last.ckpt``, and a copy of it as ``best.ckpt`` if it is ``best``.

        Returns:
            Whether it was written.

        Raises:
            OSError: when it cannot be written and is required.
        """
        try:
            trainer.save_checkpoint(self.folder / LAST, weights_only=False)
            if best and trainer.is_global_zero:
                # No second name of the same bytes: what damages them on the disk must not take both.
                with write_atomically(self.folder / BEST) as temporary:
                    shutil.copyfile(self.folder / LAST, temporary)
            self._failing = False
        except OSError as error:
            if self.required:
                because = f"checkpoint of step {trainer.global_step} not written ({error.strerror}); with "
                because += "checkpoints_required=false the training goes on"
                raise OSError(error.errno, because, error.filename) from error
            if not self._failing:
                self.say(f"checkpoint of step {trainer.global_step} not written ({error.strerror}); training on")
            self._failing = True
        self.saved(trainer)
        return not self._failing

    def on_save_checkpoint(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 - Lightning's
        pl_module: pl.LightningModule,  # noqa: ARG002 - Lightning's
        checkpoint: dict[str, Any],
    ) -> None:
        checkpoint["about"] = self.about

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]


class Stopping(pl.Callback):
    """Ends the training after the step in which a signal asked for it, with a checkpoint of that very step.

    Must come after all callbacks whose state belongs into the checkpoint.

    Args:
        requests: where signals arrive.
        checkpoints: writes the checkpoint; None writes none.

    Raises:
        Stopped: from within the training.
    """

    def __init__(self, requests: StopRequests, checkpoints: Checkpoints | None) -> None:
        self.requests, self.checkpoints = requests, checkpoints

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's
        self.requests.install()  # Lightning's own handler ends a run without a checkpoint

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, SelectorModule)
        if trainer.fit_loop._should_accumulate() or not self._asked(trainer):
            return
        if trainer.fit_loop.epoch_loop._is_training_done:
            return  # the validation that follows belongs to this step, and its checkpoint comes after it
        written = self.checkpoints is not None and self.checkpoints.save(trainer)
        self._stop(trainer, written)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - Lightning's
        if self._asked(trainer):
            self._stop(trainer, self.checkpoints is not None and self.checkpoints.written)

    def _asked(self, trainer: pl.Trainer) -> bool:
        asked = self.requests.signum is not None
        if trainer.world_size > 1:  # all processes stop at the same step, whichever of them got the signal
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        return asked

    def _stop(self, trainer: pl.Trainer, written: bool) -> None:
        self.requests.signum = self.requests.signum or Stopped().signum
        self.requests.stopped_at = trainer.global_step if written else None
        raise Stopped(self.requests.signum, self.requests.stopped_at)
