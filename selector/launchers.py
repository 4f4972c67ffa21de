"""Jobs of a multirun in other processes or on other machines, by Hydra's launchers.

The run folders are all that this process and the jobs share: a job leaves result.json or error.txt in its own, and what
is in it when the job starts is an earlier attempt of the same job. Importing this module does not import torch.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import unwrap
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selector import sweep
from selector.errors import InvalidInput
from selector.stopping import Stopped

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# Launcher -> the extra of pyproject.toml that installs it, and its class.
LAUNCHERS = {
    "joblib": ("joblib", "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"),
    "submitit_local": ("cluster", "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"),
    "submitit_slurm": ("cluster", "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"),
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"),
}
SLURM = LAUNCHERS["submitit_slurm"][1]


def is_elsewhere(cfg: DictConfig) -> bool:
    """Whether the jobs of this multirun run in other processes than the one that starts them."""
    return bool(cfg.hydra.launcher._target_ != BASIC)


def check_launcher(cfg: DictConfig) -> None:
    """Refuse a launcher that is not installed, has another type of option, or does not fit the accelerator.

    Args:
        cfg: a job of a multirun, with Hydra's own configuration.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    target = cfg.hydra.launcher._target_
    if target != BASIC:
        name = next(name for name, (_, known) in LAUNCHERS.items() if known == target)
        extra = LAUNCHERS[name][0]
        try:
            found = find_spec(".".join(target.split(".")[:2])) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise InvalidInput("hydra/launcher", name, f"is not installed; pip install -e '.[{extra}]'")
        if target == SLURM and not (shutil.which("sbatch") and shutil.which("srun")):
            raise InvalidInput("hydra/launcher", name, "sbatch and srun are not here; start it on a login node")
        check_options(cfg)
    check_processes(cfg)


def check_options(cfg: DictConfig) -> None:
    """Refuse options of other types than the launcher's plugin gives them.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    from hydra.core.config_store import ConfigStore

    name = cfg.hydra.runtime.choices["hydra/launcher"]
    schema = ConfigStore.instance().load(f"hydra/launcher/{name}.yaml").node
    given = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    try:
        OmegaConf.merge(OmegaConf.structured(schema), given)
    except OmegaConfBaseException as error:
        key = f"hydra.launcher.{error.full_key}"
        raise InvalidInput(key, OmegaConf.select(cfg, key), str(error).splitlines()[0]) from None


def check_processes(cfg: DictConfig) -> None:
    """Refuse processes that would start the command again, or of which SLURM starts another number.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    asked = cfg.accelerator
    nodes = (cfg.trainer or {}).get("num_nodes", 1)
    many = asked.devices * nodes > 1
    forked = asked.strategy.endswith(("_fork", "_spawn", "_notebook"))
    if cfg.hydra.launcher._target_ != SLURM:
        if many and not forked:
            raise InvalidInput(
                "accelerator.strategy",
                asked.strategy,
                "starts the command again for every process, which in a multirun trains something else; "
                "use ddp_fork (CPU), single runs, or hydra/launcher=submitit_slurm",
            )
        return
    launcher = cfg.hydra.launcher
    devices, nodes = (1, 1) if forked else (asked.devices, nodes)
    for key, given, needed, why in (
        ("tasks_per_node", launcher.tasks_per_node, devices, "accelerator.devices"),
        ("nodes", launcher.nodes, nodes, "trainer.num_nodes"),
    ):
        if given != needed:
            why = f"accelerator.strategy={asked.strategy} starts its own processes" if forked else f"as {why}"
            raise InvalidInput(f"hydra.launcher.{key}", given, f"must be {needed}, {why}")


@contextmanager
def requeueing() -> Iterator[None]:
    """While the block runs, a job that its scheduler warns (USR2) has its launcher requeue it, and exits.

    Training first writes a checkpoint, and raises Stopped; see :class:`selector.stopping.StopRequests`.
    """
    requeue = signal.getsignal(signal.SIGUSR2)
    if not callable(requeue):  # no launcher has set one
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        try:
            requeue(signum, frame)
        except subprocess.CalledProcessError:
            # SLURM ends what runs in the job as soon as it was asked to, often the asking command as well, or has
            # the job in the queue again when the command looks once more: neither is a refusal.
            show = ["scontrol", "show", "job", os.environ["SLURM_JOB_ID"]]
            if "JobState=RUNNING" in subprocess.run(show, capture_output=True, text=True).stdout:
                raise
            sys.exit(-1)

    signal.signal(signal.SIGUSR2, handle)
    try:
        yield
    except Stopped as stop:
        if stop.signum == signal.SIGUSR2:
            handle(stop.signum, None)
        raise
    finally:
        signal.signal(signal.SIGUSR2, requeue)


def launch_jobs(
    application: Callable[..., Any], config_dir: Path, overrides: Sequence[str], launcher: str, folders: Sequence[Path]
) -> int:
    """Start the jobs and wait for them, with a line whenever one has ended.

    Args:
        application: the task function, under Hydra's decorator or not.
        config_dir: the folder that holds train.yaml.
        overrides: those of the multirun.
        launcher: its name, for messages.
        folders: the jobs' run folders.

    Returns:
        The exit code: 0 if all jobs are done, else 3.
    """
    if launcher == "submitit_local":  # joblib shares the cores out by itself
        # Threads that share a core wait for each other most of the time.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(folders))))
    with sweep.watched(folders):
        try:
            # As hydra.main does it, but for the launcher's own errors, which it would print in full.
            with initialize_config_dir(str(config_dir), version_base="1.3", job_name="train"):
                hydra = GlobalHydra.instance().hydra
                assert hydra is not None
                hydra.multirun("train", unwrap(application), [*overrides, "hydra.mode=MULTIRUN"])
        except Exception as error:  # of any kind: the launchers' own, and those of what they call
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            because = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            print(f"error: hydra/launcher={launcher}: {because}", file=sys.stderr)
    return sweep.end(folders)
