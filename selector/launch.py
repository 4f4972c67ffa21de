"""The command line of train.py: check everything first, then let Hydra run it.

Hydra makes the run folder before it calls the application, and prints several lines with exit code 1 for a typing
error. Here every job is composed and built once before anything is written; what is wrong is one line, exit code 2.
"""

import difflib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain, count
from pathlib import Path
from traceback import walk_tb
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from selector import sweep
from selector.errors import InvalidInput
from selector.files import LOCK, sole_process
from selector.flags import as_argv, read_flags, searching
from selector.guard import check_hydra, check_run_folder, make_run_folder
from selector.launchers import check_launcher, is_elsewhere, launch_jobs
from selector.processes import is_lead
from selector.quiet import quiet_hydra
from selector.same_run import check_checkpoint, check_folder, flatten
from selector.stopping import Stopped, TerminateAsStopped
from selector.stored import stored_overrides

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# Where Hydra reads a yaml file, and where it follows the defaults list in it.
FILES, DEFAULTS = file_config_source.__file__, defaults_list.__file__

NAME = r"[\w.+=,-]+(/[\w.+=,-]+)*"
# Groups whose target may be any code of the user's own, with options of its own.
OWN = ("critic", "reward")


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


def claim(folder: Path) -> Path:
    """Make a new folder, with a number behind its name if another run took the same one in the same second."""
    for name in chain([folder.name], (f"{folder.name}-{n}" for n in count(2))):
        try:
            folder.with_name(name).mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.with_name(name)
    raise AssertionError("count() does not end")


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
    from selector.config import build_experiment, build_logger, check_trainer

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
