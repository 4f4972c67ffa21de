"""Where a run's numbers come from: versions, the state of the source, the device."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

import selector


def versions() -> dict[str, str]:
    """The versions that the numbers may depend on."""
    return {
        "selector": selector.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint must not hold
        "lightning": lightning.__version__,
        "numpy": np.__version__,
    }


def git_state(root: Path | None = None) -> dict[str, Any] | None:
    """The commit of the source and whether tracked files differ from it; None where it is no git checkout.

    Args:
        root: the checkout; None is the one that holds this package.
    """
    root = (root or Path(selector.__file__).parent.parent).resolve()

    def git(*arguments: str) -> str:
        # Only looks, and runs no program that variables or the checkout's own settings may name.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CONFIG_HOME") if name in os.environ}
        environment = {**kept, "GIT_OPTIONAL_LOCKS": "0"}
        command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=environment)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None  # installed below somebody else's checkout
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def device(accelerator: str) -> dict[str, Any]:
    """What computes: its name, and the number of CPU threads, on which the order of sums depends.

    Args:
        accelerator: as the configuration names it.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = "mps" if accelerator == "mps" else "cpu"
    return {"name": name, "machine": platform.machine(), "threads": torch.get_num_threads()}
