"""What a command line may not do with Hydra itself: name code to run, or folders that cannot hold a run.

Importing this module does not import torch.
"""

import os
import re
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selector.errors import InvalidInput
from selector.launchers import BASIC, LAUNCHERS

SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

# The logging that Hydra and its plugin hydra-colorlog bring. hydra_debug is left out: it writes beside the run folder.
LOGGING = ("none", "default", "stdout", "disabled", "colorlog")

GROUPS = ("problem", "items", "critic", "network", "strategy", "tau", "optimizer", "accelerator", "logger")


def check_hydra(cfg: DictConfig) -> None:
    """Refuse objects in Hydra's own configuration, and choices of several files where one is asked for.

    Hydra builds callbacks, sweeper, launcher and logging from dotted names, whatever they name.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    hydra = cfg.hydra
    if hydra.sweeper.get("_target_") != SWEEPER:
        raise InvalidInput("hydra.sweeper._target_", hydra.sweeper.get("_target_"), "must be left as it is")
    known = [BASIC, *(target for _, target in LAUNCHERS.values())]
    if hydra.launcher._target_ not in known:
        allowed = ", ".join(["basic", *LAUNCHERS])
        raise InvalidInput(
            "hydra.launcher._target_", hydra.launcher._target_, f"must be left to hydra/launcher={allowed}"
        )
    if hydra.mode is not None:  # what is checked as one run would be run as many, or the other way round
        raise InvalidInput("hydra.mode", hydra.mode.name, "is left to -m (--multirun)")
    if hydra.callbacks:
        raise InvalidInput("hydra.callbacks", OmegaConf.to_container(hydra.callbacks), "must be left empty")
    for part in ("env_copy", "env_set"):  # the environment of everything that a run starts, such as git
        if hydra.job[part]:
            raise InvalidInput(f"hydra.job.{part}", hydra.job[part], "must be left empty; set variables outside")
    if not re.fullmatch(r"[\w+=-][\w.+=-]*", hydra.job.name):  # the name of a log file
        raise InvalidInput("hydra.job.name", hydra.job.name, "must be letters, digits and . _ - + =")
    for part in ("job_logging", "hydra_logging"):
        _check_logging(hydra, part)
    if hydra.output_subdir != ".hydra":
        raise InvalidInput("hydra.output_subdir", hydra.output_subdir, "must be .hydra: a run is continued from there")
    for group in GROUPS:
        if group not in hydra.runtime.choices:  # Hydra takes a list of files, of which the last wins
            raise InvalidInput(group, "[…]", "must be one choice; several are for -m (--multirun)")


def _check_logging(hydra: DictConfig, part: str) -> None:
    """Refuse every logging but those that are shipped, as they are: Python calls whatever such a configuration names.

    Args:
        hydra: Hydra's own configuration.
        part: job_logging or hydra_logging.

    Raises:
        InvalidInput: naming the key that is not as shipped.
    """
    choice = hydra.runtime.choices.get(f"hydra/{part}")
    shipped = _shipped_logging(part, choice) if choice in LOGGING else None
    if shipped is None:
        there = ", ".join(name for name in LOGGING if _shipped_logging(part, name) is not None)
        raise InvalidInput(f"hydra/{part}", choice, f"must be one of {there}")
    content: Any = OmegaConf.to_container(hydra[part], resolve=False)  # some of it is known only within the run
    for key in [*content, *shipped]:
        if key not in shipped or key not in content or content[key] != shipped[key]:
            raise InvalidInput(f"hydra.{part}.{key}", content.get(key), f"must be left as hydra/{part}={choice} has it")


def _shipped_logging(part: str, choice: str) -> dict[str, Any] | None:
    """What a choice of logging is where it comes from; None where that is not installed."""
    for package in ("hydra", "hydra_plugins.hydra_colorlog"):
        with suppress(ModuleNotFoundError):
            path = files(package).joinpath("conf", "hydra", part, f"{choice}.yaml")
            if path.is_file():
                content: Any = OmegaConf.to_container(OmegaConf.create(path.read_text()), resolve=False)
                return dict(content)
    return None


def check_run_folder(folder: Path, key: str) -> None:
    """Refuse the working directory itself as a run folder, and what cannot be a folder.

    Raises:
        InvalidInput: naming ``key``.
    """
    if folder.resolve() == Path.cwd():
        raise InvalidInput(key, repr(str(folder)), "must be a folder of its own")
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise InvalidInput(key, f"{str(folder)[:60]}…", f"cannot be a folder: {error.strerror}") from None
    if not there.is_dir():
        raise InvalidInput(key, folder, f"{there} is a file")


def make_run_folder(folder: Path, key: str) -> None:
    """Make the folder of a run before anything else is done, so that a failure is a clear one.

    Raises:
        InvalidInput: when it cannot be made, or not be written to.
    """
    missing: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise InvalidInput(key, folder, f"this folder cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(key, folder, "this folder may not be written to")
