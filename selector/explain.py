"""What is wrong with a command line in one line, from the many ways in which Hydra says it.

Importing this module does not import torch.
"""

import difflib
import os
import re
import sys
from pathlib import Path
from traceback import walk_tb

from hydra._internal import defaults_list
from hydra._internal.core_plugins import file_config_source
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selector.errors import InvalidInput
from selector.same_run import flatten

# Where Hydra reads a yaml file, and where it follows the defaults list in it.
FILES, DEFAULTS = file_config_source.__file__, defaults_list.__file__


def explain(error: Exception, config_dir: Path) -> str:
    """An error in one line that names the key."""
    if isinstance(error, InvalidInput):
        return " ".join(str(error).split())
    if str(error).startswith("Config group override must be"):
        return _no_choice(config_dir)
    message, cause = str(error), error.__cause__ or error
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    file = file_of(error)
    if file is not None:
        because = " ".join(lines[:2]) or type(cause).__name__
        because = "it leads back to itself" if isinstance(error, RecursionError) else because
        return f"{file}: cannot be read as a configuration ({because})"
    missing_key = re.search(r"Key '.*' (?:is not in struct|not in )(?s:.)*?full_key: (\S+)", str(cause))
    if missing_key and missing_key[1] in ("sweeps", "experiment"):
        return f"{missing_key[1]}: the file must begin with the line # @package _global_"
    if missing_key:
        return f"{missing_key[1]}: no such key{_similar_key(missing_key[1], config_dir)}"
    wrong_type = re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)\s+full_key: (\S+)", str(cause))
    if wrong_type:
        wanted = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{wrong_type[3]}={wrong_type[1]}: must be {wanted.get(wrong_type[2], wrong_type[2])}"
    missing_option = re.match(r"In '.*': Could not find '(\S+)/([^/']+)'", message)
    if missing_option:
        options = [line for line in lines[1:] if not line.endswith(":")]
        known = [o for o in options if "/" not in o and not o.startswith(("Config", "provider"))]
        return f"{missing_option[1]}={missing_option[2]}: must be one of {', '.join(known)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: must be key=value ({lines[0]})"
    several = re.match(r"Ambiguous value for argument '(\S+)'", message)
    if several:
        return f"{several[1]}: must be one value; several are for -m (--multirun)"
    full_key = re.search(r"full_key: (\S+)", f"{message}\n{cause}")
    key = f"{full_key[1]}: " if full_key else ""
    because = str(cause).splitlines()[0] if isinstance(cause, OmegaConfBaseException) else ""
    return key + (because or " ".join(lines[:2]))


def file_of(error: BaseException) -> str | None:
    """The yaml file that Hydra was reading when ``error`` was raised, which seldom says it; None when it was none."""
    found = None
    unnamed = isinstance(error, RecursionError) or str(error).startswith("Unsupported type in defaults")
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_code.co_filename == FILES and "full_path" in frame.f_locals:
            found = os.path.normpath(str(frame.f_locals["full_path"]))
        elif frame.f_code.co_filename == DEFAULTS and unnamed:
            found = str(frame.f_locals.get("path") or found)
    return found


def _no_choice(config_dir: Path) -> str:
    """Which group was given something else than a name; Hydra does not say it."""
    for one in sys.argv[1:]:
        key = one.lstrip("+").partition("=")[0]
        group = key.partition("@")[0]
        folders = [path for path in (config_dir / group, config_dir.parent / group) if group and path.is_dir()]
        if not folders or one.startswith("-"):
            continue
        parsed = OverridesParser.create().parse_override(one)
        if parsed.is_sweep_override() or not isinstance(parsed.value(), str):
            choices = sorted(path.stem for path in folders[0].glob("*.yaml"))
            return f"{key}={one.partition('=')[2]}: must be one of {', '.join(choices)}"
    return f"{' '.join(sys.argv[1:])}: must be key=value, with a key, and a name where the key is a group"


def _similar_key(key: str, config_dir: Path) -> str:
    """A hint at what a mistyped key may have meant: any group, or any option of any choice of a group."""
    top = OmegaConf.load(config_dir / "train.yaml")
    known = [*flatten(top), *(path.name for path in config_dir.iterdir() if path.is_dir())]
    for choice in config_dir.glob("*/*.yaml"):
        options = flatten(OmegaConf.load(choice))
        known += [f"{choice.parent.name}.{option}" for option in options if option not in ("defaults", "_target_")]
    if key in known:
        return f" here: an option of another choice of {key.split('.')[0]}"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else " here (python train.py --help lists all)"
