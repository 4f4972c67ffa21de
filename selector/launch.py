"""The command line of train.py: check everything first, then let Hydra run it.

Hydra makes the run folder before it calls the application, and prints several lines with exit code 1 for a typing
error. Here every job is composed and built once before anything is written; what is wrong is one line, exit code 2.
"""

import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from selector import sweep
from selector.account import import_wandb
from selector.allocation import keep_memory
from selector.composing import choose_own, compose_job, continue_run, is_sweep, jobs
from selector.config import check_config
from selector.errors import InvalidInput
from selector.explain import explain
from selector.files import LOCK, claim, sole_process
from selector.flags import as_argv, read_flags, searching
from selector.guard import check_hydra, check_run_folder, make_run_folder
from selector.launchers import check_launcher, is_elsewhere, launch_jobs
from selector.processes import is_lead
from selector.quiet import quiet_hydra
from selector.same_run import check_checkpoint, check_folder
from selector.stopping import Stopped, TerminateAsStopped

NAME = r"[\w.+=,-]+(/[\w.+=,-]+)*"


@quiet_hydra()
def main(application: Callable[[], None], config_dir: Path, argv: Sequence[str]) -> int:
    """Run ``application`` (a function under ``hydra.main``) if the command line is sound.

    Args:
        application: what Hydra's decorator returned.
        config_dir: the folder that holds train.yaml.
        argv: the command line without the program's name.

    Returns:
        The exit code: 0 done, 2 bad input, 3 training failed, 130 stopped by SIGINT, 143 by SIGTERM.
    """
    with TerminateAsStopped():
        return _main(application, config_dir, argv)


def _main(application: Callable[[], None], config_dir: Path, argv: Sequence[str]) -> int:
    if not is_lead():  # started by Lightning beside a process that has checked everything
        application()
        return 0
    try:
        arguments = read_flags(argv)
    except (InvalidInput, HydraException) as error:
        print("error:", " ".join(explain(error, config_dir).split()), file=sys.stderr)
        return 2
    folders: list[Path] = []
    launcher: str | None = None
    checked = False
    try:
        # The top-level folder sweeps/ is a config group: the root must be on Hydra's search path, wherever it lies.
        overrides = choose_own(continue_run(arguments.overrides))
        overrides = searching(overrides, arguments.config_dir, config_dir.parent)
        sys.argv[1:] = as_argv(arguments) + overrides
        with initialize_config_dir(str(config_dir), version_base="1.3", job_name="train"):
            if arguments.only_shows:
                check_shown(arguments, overrides)
            else:
                # What is checked is what runs: a folder with the time in its name must not change in between.
                if arguments.multirun:
                    cfg = compose_job([o for o in overrides if not is_sweep(o)])
                    overrides.append(f"hydra.sweep.dir='{cfg.hydra.sweep.dir}'")
                    sys.argv.append(overrides[-1])
                    folders = [check_job(job, n) for n, job in enumerate(jobs(overrides))]
                    if is_elsewhere(cfg):
                        launcher = cfg.hydra.runtime.choices["hydra/launcher"]
                else:
                    folders = [check_job(overrides, None)]
                    if not any(o.startswith(("name=", "hydra.run.dir=")) for o in overrides):
                        make_run_folder(folders[0].parent, "name")
                        folders = [claim(folders[0])]
                        sys.argv.append(f"name={folders[0].name}")
                    else:
                        make_run_folder(folders[0], folder_key(overrides, None))
        checked = True
        if launcher is not None:
            with sole_process(folders[0].parent, "hydra.sweep.dir"):
                return launch_jobs(application, config_dir, overrides, launcher, folders)
        sweep.begin(len(folders))
        locked = None
        if folders:  # before Hydra writes into a folder that may be another process's
            alone = (folders[0], folder_key(overrides, None))
            locked = (folders[0].parent, "hydra.sweep.dir") if arguments.multirun else alone
        with (
            sole_process(*locked) if locked is not None else nullcontext(),
            one_repository() if arguments.help else nullcontext(),
        ):
            if not arguments.multirun and folders and (folders[0] / "metrics.csv").exists():
                # Another process may have trained here between the check above and the lock.
                with initialize_config_dir(str(config_dir), version_base="1.3", job_name="train"):
                    check_folder(compose_job(overrides), folders[0])
            application()
    except KeyboardInterrupt as stop:
        for folder in folders[:1]:
            if folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
            for empty in (folder, folder.parent):  # made here, and nothing came into it
                with suppress(OSError):
                    empty.rmdir()
        if arguments.multirun:
            sweep.end(folders)
        print("interrupted", file=sys.stderr)
        if launcher is not None:
            print("Jobs that were handed to a cluster go on; scancel ends them.", file=sys.stderr)
        return stop.exit_code if isinstance(stop, Stopped) else 130
    except Exception as error:
        # What Hydra cannot read it reports in many ways; what goes wrong later is no input's fault.
        if checked and not isinstance(error, InvalidInput | HydraException | OmegaConfBaseException):
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print("error:", " ".join(explain(error, config_dir).split()), file=sys.stderr)
        return 2
    if arguments.multirun and not arguments.only_shows:
        return sweep.end(folders)
    return 3 if sweep.any_failed() or any((folder / sweep.FAILED).exists() for folder in folders) else 0


def check_shown(arguments: Namespace, overrides: Sequence[str]) -> None:
    """Compose what Hydra is asked to show, for it reports what is wrong in many lines.

    Raises:
        InvalidInput, HydraException, OmegaConfBaseException: what is wrong with it.
    """
    if arguments.hydra_help or arguments.shell_completion or (arguments.help and not arguments.overrides):
        return
    cfg = compose_job(overrides)
    shown = cfg.hydra if arguments.cfg == "hydra" else cfg
    if arguments.cfg == "job" or arguments.help:
        with open_dict(cfg):
            del cfg["hydra"]
    if arguments.package is not None and OmegaConf.select(cfg, arguments.package) is None:
        raise InvalidInput("--package", arguments.package, "there is none of this name in what is shown")
    OmegaConf.to_container(shown, resolve=arguments.resolve)


@contextmanager
def one_repository() -> Iterator[None]:
    """Let Hydra list all groups from one copy of its search path: its own, for every group, are 80% of ``--help``."""
    make = ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    made: dict[tuple[Any, ...], Any] = {}

    def once(self: ConfigLoaderImpl, config_name: str | None, overrides: list[str]) -> Any:
        key = (id(self), config_name, *overrides)
        if key not in made:
            made[key] = make(self, config_name, overrides)
        return made[key]

    ConfigLoaderImpl._parse_overrides_and_create_caching_repo = once  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl._parse_overrides_and_create_caching_repo = make  # type: ignore[method-assign]


def check_job(overrides: list[str], number: int | None) -> Path:
    """Compose one job and build its objects, which writes nothing.

    Args:
        overrides: the job's overrides.
        number: its number in a multirun; None for a single run.

    Returns:
        The run folder.

    Raises:
        InvalidInput, HydraException, OmegaConfBaseException: what is wrong with it.
    """
    cfg = compose_job(overrides, number)
    check_hydra(cfg)
    if not re.fullmatch(NAME, cfg.name) or {".", ".."} & set(cfg.name.split("/")):
        raise InvalidInput("name", cfg.name, "must be letters, digits and . _ - + = , with / for subfolders")
    folder = Path(cfg.hydra.run.dir) if number is None else Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir
    check_run_folder(folder, folder_key(overrides, number))
    check_folder(cfg, folder)
    if number is not None:
        check_launcher(cfg)
    check_config(cfg)  # what is wrong without torch is said at once, not after seconds of importing it
    keep_memory()
    if OmegaConf.select(cfg, "logger._target_") == "selector.logger.SeedWandb":
        import_wandb()  # before torch
    from selector.experiment import build_experiment, build_logger
    from selector.trainer import check_trainer

    experiment = build_experiment(cfg)
    check_trainer(experiment.trainer)
    build_logger(cfg, experiment.network.seeds)
    if cfg.resume is not None:
        from selector.checkpoints import exists
        from selector.training import check_resume

        if exists(folder):
            check_checkpoint(cfg, folder, check_resume(folder, cfg.max_steps, experiment.problem.items).content)
    return folder


def folder_key(overrides: Sequence[str], number: int | None) -> str:
    """Which key decided where the run goes, for messages."""
    if number is not None:
        return "hydra.sweep.dir"
    return "hydra.run.dir" if any(o.startswith("hydra.run.dir=") for o in overrides) else "name"
