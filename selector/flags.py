"""Hydra's flags on the command line of train.py: the configuration that is checked must be the one that runs.

What would run another one is refused. Importing this module does not import torch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from selector.errors import InvalidInput

# Flag -> what to do instead.
REFUSED = {
    "config_name": "train.yaml is the only one; change it by key=value",
    "config_path": "may not be another; --config-dir adds a folder with yaml files of your own",
    "experimental_rerun": "would run what is pickled there; use python -m selector reproduce <run folder>",
}
SEARCH_PATH = "hydra.searchpath"


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's reading of the command line; ``only_shows`` says whether nothing is to be run.

    Raises:
        InvalidInput, HydraException: for flags that are none, do not fit each other, or are refused.
    """

    def refuse(message: str) -> NoReturn:
        raise HydraException(message)

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]  # not a page of usage
    given = parser.parse_intermixed_args(list(argv))  # flags between overrides, too
    for name, instead in REFUSED.items():
        if getattr(given, name) is not None:
            raise InvalidInput(f"--{name.replace('_', '-')}", getattr(given, name), instead)
    commands = ("run", "multirun", "cfg", "info", "shell_completion")
    asked = [f"--{name.replace('_', '-')}" for name in commands if getattr(given, name)]
    if len(asked) > 1:
        raise HydraException(f"{' '.join(asked)}: must be one of them")
    if given.resolve and given.cfg not in ("job", "all") and not given.help:
        raise HydraException("--resolve: must come with --cfg job, --cfg all or --help")
    if given.package is not None and not given.cfg:
        raise InvalidInput("--package", given.package, "must come with --cfg")
    given.only_shows = bool(given.help or given.hydra_help or given.cfg or given.info or given.shell_completion)
    return given


def as_argv(given: argparse.Namespace) -> list[str]:
    """The flags that Hydra is to read again, without overrides; --config-dir is among those of :func:`searching`."""
    names = ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion")
    argv = [f"--{name.replace('_', '-')}" for name in names if getattr(given, name)]
    for name in ("cfg", "info", "package"):
        if getattr(given, name) is not None:
            argv += [f"--{name}", getattr(given, name)]
    return argv


def searching(overrides: Sequence[str], config_dir: str | None, root: Path) -> list[str]:
    """The overrides with one list of folders in which yaml files are looked for, after those of configs/.

    Args:
        overrides: those of the command line.
        config_dir: the folder of --config-dir, if it was given.
        root: the last to be looked through.

    Raises:
        InvalidInput: for what is no folder on this machine: a package would be imported.
    """
    folders = [] if config_dir is None else [("--config-dir", Path(config_dir))]
    others = []
    for one in overrides:
        if not one.lstrip("+~").startswith(SEARCH_PATH):
            others.append(one)
            continue
        parsed = OverridesParser.create().parse_override(one)
        value = None if parsed.is_sweep_override() or parsed.is_delete() else parsed.value()
        if parsed.key_or_group != SEARCH_PATH or not isinstance(value, list):
            raise InvalidInput(SEARCH_PATH, one.partition("=")[2], "must be a list of file://<folder>")
        for place in value:
            if not str(place).startswith("file://"):
                raise InvalidInput(SEARCH_PATH, place, "must be file://<folder>")
            folders.append((SEARCH_PATH, Path(str(place).removeprefix("file://"))))
    for key, folder in folders:
        if not folder.is_dir():
            raise InvalidInput(key, folder, "no such folder")
    places = [f"file://{folder.absolute()}".replace("'", "\\'") for _, folder in (*folders, ("", root))]
    quoted = ",".join(f"'{place}'" for place in places)
    return [*others, f"{SEARCH_PATH}=[{quoted}]"]
