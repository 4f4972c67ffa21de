"""The arguments of Lightning's Trainer: what may be given, and whether this machine has the devices."""

import inspect
from typing import Any, get_type_hints

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from selector.building import fits, no_such, type_name
from selector.config import plain
from selector.errors import InvalidInput, check_at_least
from selector.processes import cluster_plugins
from selector.quiet import quiet_libraries


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer: from the accelerator group, and whatever stands under ``trainer``.

    Raises:
        InvalidInput: for a device that is not there, an argument that Lightning does not have, or one that has a key
            of its own here.
    """
    asked = cfg.accelerator
    there = {"cpu": 10**6, "gpu": torch.cuda.device_count(), "cuda": torch.cuda.device_count()}
    there["mps"] = int(torch.backends.mps.is_available())
    there["auto"] = 10**6
    if asked.accelerator not in there:
        raise InvalidInput("accelerator.accelerator", asked.accelerator, f"must be one of {', '.join(there)}")
    if not there[asked.accelerator]:
        raise InvalidInput("accelerator.accelerator", asked.accelerator, "no such device is here; try accelerator=cpu")
    if asked.devices > there[asked.accelerator]:
        raise InvalidInput("accelerator.devices", asked.devices, f"only {there[asked.accelerator]} are here")

    given = plain(cfg)["trainer"] or {}
    if not isinstance(given, dict):
        raise InvalidInput("trainer", given, "must be arguments of Lightning's Trainer, by name")
    hints = get_type_hints(pl.Trainer.__init__)
    elsewhere = {
        "max_steps": "max_steps",
        "max_epochs": "max_steps",
        "val_check_interval": "val_every",
        "check_val_every_n_epoch": "val_every",
        "gradient_clip_val": "optimizer.clip",
        "logger": "logger",
        "accelerator": "accelerator.accelerator",
        "devices": "accelerator.devices",
        "strategy": "accelerator.strategy",
        "precision": "accelerator.precision",
    }
    ours = ("callbacks", "plugins")  # a run without them would record nothing and keep no checkpoint
    allowed = [name for name in inspect.signature(pl.Trainer).parameters if name not in (*elsewhere, *ours)]
    for name, value in given.items():
        if name in elsewhere:
            raise InvalidInput(f"trainer.{name}", value, f"use {elsewhere[name]} instead")
        if name in ours:
            raise InvalidInput(f"trainer.{name}", value, "must be left out: a run has its own; see selector.fit")
        if name not in allowed:
            raise InvalidInput(f"trainer.{name}", value, no_such(name, allowed, "Lightning's Trainer has no argument"))
        if not fits(value, hints.get(name, Any)):
            raise InvalidInput(f"trainer.{name}", value, f"must be {type_name(hints[name])}")
    check_at_least(1, **{f"trainer.{key}": given.get(key) for key in ("accumulate_grad_batches", "num_nodes")})
    nodes = given.get("num_nodes", 1)
    if cfg.batch_size % (asked.devices * nodes):
        times = f" times trainer.num_nodes={nodes}" if nodes > 1 else ""
        raise InvalidInput(
            "batch_size", cfg.batch_size, f"must be a multiple of accelerator.devices={asked.devices}{times}"
        )
    if asked.precision.startswith("16") and cfg.optimizer.get("clip") is not None:
        # Fused optimizers undo the loss scale themselves, after clipping has seen the scaled gradients.
        raise InvalidInput("optimizer.clip", cfg.optimizer.clip, "must be null at 16-bit precision; bf16-mixed clips")
    return {
        "accelerator": asked.accelerator,
        "devices": asked.devices,
        "strategy": asked.strategy,
        "precision": asked.precision,
        **given,
    }


def check_trainer(arguments: dict[str, Any]) -> None:
    """Let Lightning judge the arguments of its Trainer.

    Raises:
        InvalidInput: with the first line of what Lightning says.
    """
    ours: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    try:
        with quiet_libraries():
            pl.Trainer(**{**ours, "plugins": cluster_plugins(), **arguments})
    except Exception as error:  # Lightning looks at some arguments by using them
        because = (str(error) or type(error).__name__).splitlines()[0]
        at_fault = [name for name in ("precision", "strategy", "devices") if name in because.lower()]
        if at_fault:
            raise InvalidInput(f"accelerator.{at_fault[0]}", arguments[at_fault[0]], because) from None
        others = {
            name: value for name, value in arguments.items() if name not in ("accelerator", "precision", "strategy")
        }
        raise InvalidInput("trainer", others, because) from None
