"""A seed whose loss or gradient is not finite stops alone: frozen where it was, while the others train on untouched.

Shape legend: R seeds trained side by side.
"""

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn


class Divergence:
    """Watches R seeds and freezes those that fail. Nothing here waits for a device other than the CPU.

    A step fails for a seed when its loss is not finite, or the norm of its gradient overflows. From that step on its
    gradients are zero and its parameters those before the step, so that the optimizer's state stays finite as well.
    Parameters that overflow show in the next step's loss. Only a learning rate as large as the numbers themselves
    gets there; the seed is then frozen as it is.

    Args:
        seeds: R.
        device: where the parameters are.
    """

    def __init__(self, seeds: int, device: torch.device | str = "cpu") -> None:
        self.alive = torch.ones(seeds, dtype=torch.bool, device=device)
        self.failed_step = torch.zeros(seeds, dtype=torch.int64, device=device)
        self.largest = torch.zeros(seeds, device=device)
        self._all_alive = True  # known on a CPU; elsewhere looking would wait for the device
        self._losses: list[Tensor] = []
        self._before: list[Tensor] | None = None
        self._parameters: list[nn.Parameter] = []

    def watch(self, losses: Tensor) -> None:
        """Look at the losses ``[R]`` of a step, or of a part of it when gradients are accumulated."""
        self._losses.append(losses.detach())

    def silence(self, parameters: Iterable[nn.Parameter]) -> None:
        """Zero the gradients of seeds whose loss is not finite, before a loss scaler sees them."""
        sound = self.alive & torch.stack(self._losses).isfinite().all(0)
        for p in parameters:
            if p.grad is not None:
                p.grad.masked_fill_(_like(~sound, p.grad), 0.0)

    @torch.no_grad()
    def before_step(self, parameters: Iterable[nn.Parameter], step: int, *, scaled: bool, shared: bool) -> None:
        """Freeze the seeds that fail in this step; called when the gradients are there, before the optimizer's step.

        Args:
            parameters: each ``[R, …]``.
            step: the optimizer step that is about to be made; the first one is 1.
            scaled: gradients were multiplied by a loss scaler, which overflows now and then by design: only the
                losses count.
            shared: several processes train the same parameters, and must agree on what failed.
        """
        self._parameters = [p for p in parameters if p.grad is not None]
        grads = [p.grad for p in self._parameters if p.grad is not None]
        flat = torch.cat([g.reshape(len(g), -1) for g in grads], 1)
        norms = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32)
        losses = self._losses[0].unsqueeze(0) if len(self._losses) == 1 else torch.stack(self._losses)
        self._losses = []
        self._before = None
        if self.alive.device.type == "cpu" and not shared:
            # Reading a number costs nothing here: where all is well, nothing else has to be done.
            total = float(losses.sum()) + (0.0 if scaled else float(norms.sum()))
            if self._all_alive and math.isfinite(total):
                torch.maximum(self.largest, norms, out=self.largest)
                return
        finite = norms.isfinite()
        sound = losses.isfinite().all(0) & (finite | scaled)
        if shared:
            agreed = sound.to(torch.uint8)
            torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MIN)
            sound = agreed.bool()
        self.failed_step = torch.where(self.alive & ~sound, step, self.failed_step)
        self.alive = self.alive & sound
        self._all_alive = self.alive.device.type == "cpu" and bool(self.alive.all())
        self.largest = torch.where(self.alive & finite, torch.maximum(self.largest, norms), self.largest)
        for g in grads:
            g.masked_fill_(_like(~self.alive, g), 0.0)
        self._before = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def after_step(self) -> None:
        """Undo what momentum and weight decay did to frozen seeds; called after the optimizer's step."""
        if self._before is not None:
            for p, before in zip(self._parameters, self._before, strict=True):
                p.copy_(torch.where(_like(self.alive, p), p, before))
            self._before = None

    def failed(self) -> list[int | None]:
        """The step at which each seed failed, or None. Waits for the device."""
        return [step or None for step in self.failed_step.tolist()]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"alive": self.alive, "failed_step": self.failed_step, "largest": self.largest}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        device = self.alive.device
        self.alive, self.failed_step, self.largest = (
            state[key].to(device, copy=True) for key in ("alive", "failed_step", "largest")
        )
        self._all_alive = bool(self.alive.all())


class AllFailed(pl.Callback):
    """Ends a training in which no seed is left, before its next checkpoint.

    On the CPU after the Lightning step in which the last one failed; elsewhere looking waits for the device, so that it
    is at the next validation.

    Raises:
        FloatingPointError: from within the training.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        divergence = pl_module.divergence
        assert isinstance(divergence, Divergence)
        alive = divergence.alive
        if alive.device.type == "cpu" and not bool(alive.any()):
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        from selector.module import SelectorModule

        assert isinstance(pl_module, SelectorModule)
        failed = pl_module.divergence.failed()
        steps = [step for step in failed if step is not None]
        if len(steps) < len(failed):
            return
        last, largest = max(steps), float(pl_module.divergence.largest.max())
        who = "the seed" if len(steps) == 1 else f"all {len(steps)} seeds"
        strategy, tau = type(pl_module.strategy).__name__, pl_module.tau(last - 1)
        raise FloatingPointError(
            f"{who} failed, the last at step {last}: loss or gradient not finite with {strategy} at tau {tau:.3g}; "
            f"the largest gradient before had norm {largest:.3g}. Lower optimizer.lr, or set optimizer.clip"
        )


def _like(per_seed: Tensor, tensor: Tensor) -> Tensor:
    """``[R] -> [R, 1, …]`` with as many dims as ``tensor``."""
    return per_seed.view(-1, *[1] * (tensor.dim() - 1))
