"""Whether a configuration is that of the run which a folder holds: two runs are never mixed in one folder.

Importing this module does not import torch.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from selector.errors import InvalidInput

# What may change when a run goes on: how long, where and how it is logged. All else would make it another run.
MAY_CHANGE = (
    "name",
    "resume",
    "trust",
    "max_steps",
    "stop_at_regret",
    "patience",
    "checkpoints_required",
    "logger",
    "accelerator",
    "trainer",
    "steps_per_call",
)


def check_folder(cfg: DictConfig, folder: Path) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        InvalidInput: when the folder holds a run that this is not.
    """
    if not (folder / "metrics.csv").exists():
        return
    if cfg.resume is None:
        other = "another name" if cfg.hydra.mode is not RunMode.MULTIRUN else "another hydra.sweep.dir"
        raise InvalidInput("name", cfg.name, f"{folder} holds a run already; {other}, or resume=auto to go on")
    stored = folder / ".hydra" / "config.yaml"
    if not stored.is_file():
        return  # what its checkpoint says counts, see check_checkpoint
    theirs, ours = flatten(OmegaConf.load(stored)), flatten(cfg)
    for key in sorted(theirs.keys() | ours.keys()):
        if key.split(".")[0] not in (*MAY_CHANGE, "hydra") and theirs.get(key) != ours.get(key):
            raise InvalidInput(
                key, ours.get(key), f"the run in {folder} has {theirs.get(key)}, and goes on only as it is"
            )


def check_checkpoint(cfg: DictConfig, folder: Path, content: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that another configuration wrote, whatever the files beside it say.

    Args:
        cfg: the configuration that is to go on.
        folder: the run folder.
        content: of the checkpoint.

    Raises:
        InvalidInput: naming ``resume``.
    """
    about = content.get("about")
    recorded = about.get("run_digest") if isinstance(about, dict) else None
    if recorded is None and not (folder / ".hydra" / "config.yaml").is_file():
        raise InvalidInput("resume", folder, "neither .hydra/config.yaml nor its checkpoint says which run it was")
    if recorded is not None and recorded != run_digest(cfg):
        raise InvalidInput("resume", folder, "its checkpoint was written by a run with another configuration")


def run_digest(cfg: DictConfig) -> str:
    """A fingerprint of all keys that may not change when a run goes on."""
    leaves = {key: value for key, value in flatten(cfg).items() if key.split(".")[0] not in (*MAY_CHANGE, "hydra")}
    return hashlib.sha256(json.dumps(leaves, sort_keys=True, default=str).encode()).hexdigest()[:16]


def flatten(cfg: Any, prefix: str = "") -> dict[str, Any]:
    """Unresolved leaves by dotted key."""
    container: Any = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else cfg
    if not isinstance(container, dict):
        return {prefix: container}
    leaves: dict[str, Any] = {}
    for name, value in container.items():
        key = str(name)
        leaves |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return leaves
