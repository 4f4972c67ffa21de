"""Several optimizer steps in one Lightning step: Lightning's hooks cost as much as a small network's whole step.

Only the last step of a call goes through Lightning. The steps before it do the same things in the same order, without
its hooks, so that a run is the same bit for bit whatever the number of steps in a call.
"""

from collections.abc import Iterable, Mapping
from math import gcd
from typing import Any

import lightning.pytorch as pl
import torch

from selector.errors import InvalidInput, check_at_least

# A call ends before an interrupt is seen, and before a progress bar moves: no more steps than this …
_MOST = 32
# … and no more logits than this, over all its steps: about a tenth of a second on one core.
_LARGEST = 2**22
# Hooks that Lightning calls in every step; a callback with one of them wants to see every step.
_EVERY_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
# Arguments of the Trainer that have nothing to do with single steps. With any other, a call is one step.
_HARMLESS = {
    "accelerator",
    "barebones",
    "benchmark",
    "default_root_dir",
    "deterministic",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "inference_mode",
    "limit_val_batches",
    "log_every_n_steps",
    "logger",
    "num_sanity_val_steps",
}
_ONE_STEP = {"devices": (1, "1", "auto"), "strategy": ("auto",), "precision": ("32-true", "32", 32, None)}


def steps_per_call(
    asked: int | None,
    *,
    val_every: int,
    probe_every: int | None,
    logits: int,
    trainer: Mapping[str, Any],
    callbacks: Iterable[pl.Callback],
) -> int:
    """How many optimizer steps one Lightning step makes.

    Args:
        asked: None chooses: one if the Trainer's arguments or a callback may look at single steps, else as many as
            divide the periods below and stay within a fraction of a second.
        val_every: optimizer steps between two validations.
        probe_every: optimizer steps between two probes, or None.
        logits: R·B·S·N, the size of one step.
        trainer: arguments of Lightning's Trainer.
        callbacks: what the user hands to Lightning.

    Raises:
        InvalidInput: when ``asked`` does not divide the periods, or the arguments of the Trainer allow one step only.
    """
    check_at_least(1, steps_per_call=asked)
    period = gcd(val_every, probe_every or 0)
    alone = [key for key, value in trainer.items() if not _whole(key, value)]
    if asked is not None:
        if period % asked:
            periods = "val_every and probe.every" if probe_every else "val_every"
            raise InvalidInput("steps_per_call", asked, f"must divide {periods} ({period})")
        if asked > 1 and alone:
            raise InvalidInput("steps_per_call", asked, f"must be 1 with trainer.{alone[0]}={trainer[alone[0]]}")
        return asked
    if alone or any(_sees_steps(callback) for callback in callbacks):
        return 1
    most = min(_MOST, max(1, _LARGEST // logits))
    return max(k for k in range(1, most + 1) if period % k == 0)


def _whole(key: str, value: Any) -> bool:
    """Whether an argument of the Trainer leaves several steps in a call alone."""
    if key == "accumulate_grad_batches":
        return bool(value == 1)
    return key in _HARMLESS or value in _ONE_STEP.get(key, ())


def _sees_steps(callback: pl.Callback) -> bool:
    return any(getattr(type(callback), hook) is not getattr(pl.Callback, hook) for hook in _EVERY_STEP)


def count_step(trainer: pl.Trainer) -> None:
    """Advance the learning rate, and all counters that Lightning keeps of optimizer steps, by one."""
    loop = trainer.fit_loop.epoch_loop
    progress = loop.automatic_optimization.optim_progress.optimizer.step
    progress.increment_ready()
    progress.increment_completed()
    for config in trainer.lr_scheduler_configs:
        loop.scheduler_progress.increment_ready()
        trainer.lightning_module.lr_scheduler_step(config.scheduler, None)
        loop.scheduler_progress.increment_completed()
    loop._batches_that_stepped += 1  # what Lightning's own loggers are given as step


def recount_batches(checkpoint: dict[str, Any], val_every: int, calls: int) -> None:
    """Let a checkpoint count the calls of its validation period as this run does: its own may have been longer.

    Args:
        checkpoint: Lightning's; changed in place.
        val_every: optimizer steps of a validation period.
        calls: Lightning's batches of a validation period.
    """
    step = checkpoint["global_step"]
    within = step % val_every or (val_every if step else 0)  # a period's last checkpoint lies at its end
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    ready = progress["current"]["ready"]
    change = within * calls // val_every - ready
    for name in progress["current"]:
        progress["current"][name] += change


def optimize(module: pl.LightningModule, objective: torch.Tensor) -> None:
    """One optimizer step without Lightning's hooks: backward pass, clipping, update, learning rate, counters."""
    (optimizer,) = module.trainer.optimizers
    for group in optimizer.param_groups:  # as optimizer.zero_grad() does, which takes ten times as long
        for parameter in group["params"]:
            parameter.grad = None
    objective.backward()  # type: ignore[no-untyped-call]  # torch's stub
    module.configure_gradient_clipping(optimizer)
    optimizer.step()
    count_step(module.trainer)
