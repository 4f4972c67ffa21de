"""What a command line may not do with Hydra itself: name code to run, or folders that cannot hold a run.

Importing this module does not import torch.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selector.errors import InvalidInput
from selector.launchers import BASIC, LAUNCHERS

SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

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
    for part in ("job_logging", "hydra_logging"):
        content = OmegaConf.to_container(hydra[part], resolve=True) if hydra[part] is not None else None
        for key, value in _leaves(content, f"hydra.{part}"):
            made = key.rsplit(".", 1)[-1] in ("()", "class")
            if made and not str(value).startswith(("logging.", "colorlog.")):
                raise InvalidInput(key, value, "must be a class of the module logging")
    if hydra.output_subdir != ".hydra":
        raise InvalidInput("hydra.output_subdir", hydra.output_subdir, "must be .hydra: a run is continued from there")
    for group in GROUPS:
        if group not in hydra.runtime.choices:  # Hydra takes a list of files, of which the last wins
            raise InvalidInput(group, "[…]", "must be one choice; several are for -m (--multirun)")


def _leaves(content: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _leaves(value, f"{key}.{name}")
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, key)
    else:
        yield key, content


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
        InvalidInput: when it cannot be made.
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
