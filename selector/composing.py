"""From the overrides of a command line to its jobs, and to the configuration of each.

Importing this module does not import torch.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict, read_write

from selector.errors import InvalidInput
from selector.stored import stored_overrides

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# Groups whose target may be any code of the user's own, with options of its own.
OWN = ("critic", "reward")


def continue_run(overrides: Sequence[str]) -> list[str]:
    """Replace ``resume=<run folder>`` by what that run was started with, and the folder itself.

    Raises:
        InvalidInput: when the folder holds no run with a checkpoint.
    """
    given = [o.removeprefix("resume=") for o in overrides if o.startswith("resume=")]
    if not given or given[-1] in ("auto", "null", ""):
        return list(overrides)
    folder = Path(given[-1])
    stored = folder / ".hydra" / "overrides.yaml"
    if not folder.is_dir():
        raise InvalidInput("resume", folder, "no such folder; must be a run folder or auto")
    if not stored.is_file() or not any((folder / "checkpoints").glob("*.ckpt")):
        raise InvalidInput("resume", folder, "must be a run folder that holds .hydra/ and a checkpoint")
    # What is said about this process, not about the run, does not count: the folder may come from anywhere.
    elsewhere = re.compile(r"[+~]*(resume|name|trust|hydra\b.*?)(@.*)?(=|$)")
    started_with = [o for o in stored_overrides(folder, "resume") if not elsewhere.match(o)]
    new = [o for o in overrides if not o.startswith("resume=")]
    # The later of two overrides of one key wins, so that `resume=<folder> max_steps=9000` trains longer.
    name = folder.resolve().name
    return [*started_with, f"name='{name}'", *new, f"hydra.run.dir='{folder}'", "resume=auto"]


def choose_own(overrides: Sequence[str]) -> list[str]:
    """``critic._target_=…`` alone asks for ``critic=own``: the options of the problem's own critic do not fit it."""
    asked = [g for g in OWN if any(o.startswith(f"{g}._target_=") for o in overrides)]
    return [*(f"{g}=own" for g in asked if not any(o.startswith(f"{g}=") for o in overrides)), *overrides]


def jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every single job of a multirun: from the command line and the sweep file."""
    overrides = choose_own(overrides)
    cfg = compose("train", overrides=[o for o in overrides if not is_sweep(o)], return_hydra_config=True)
    params = cfg.hydra.sweeper.get("params") or {}
    # The order is the basic sweeper's own: the command line comes last, and wins.
    parsed = OverridesParser.create().parse_overrides([*(f"{k}={v}" for k, v in params.items()), *overrides])
    return [job for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for job in batch]


def is_sweep(override: str) -> bool:
    """Whether an override asks for several values, as in ``strategy=a,b``."""
    return OverridesParser.create().parse_override(override).is_sweep_override()


def compose_job(overrides: Sequence[str], number: int | None = None) -> DictConfig:
    """The configuration of one job, as ``python train.py <overrides>`` gets it.

    It becomes the one that ``${hydra:…}`` reads. Hydra must have been initialised with the folder of train.yaml.

    Args:
        overrides: the job's overrides.
        number: its number in a multirun; None for a single run.

    Raises:
        HydraException, OmegaConfBaseException: what is wrong with it.
    """
    cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        # Hydra sets it within the job; job_logging=default asks for it before.
        cfg.hydra.runtime.output_dir = "${hydra.run.dir}"
        if number is not None:
            cfg.hydra.runtime.output_dir = "${hydra.sweep.dir}/${hydra.sweep.subdir}"
            cfg.hydra.job.num = number
    HydraConfig.instance().set_config(cfg)
    return cfg
