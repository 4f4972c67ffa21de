"""The command line of train.py: check everything first, then let Hydra run it.

Hydra makes the run folder before it calls the application, and prints several lines with exit code 1 for a typing
error. Here every job is composed and built once before anything is written; what is wrong is one line, exit code 2.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from selector import sweep
from selector.errors import InvalidInput
from selector.files import LOCK, sole_process
from selector.guard import check_hydra, check_run_folder, make_run_folder
from selector.launchers import check_launcher, is_elsewhere, launch_jobs
from selector.processes import is_lead
from selector.quiet import quiet_hydra
from selector.same_run import check_checkpoint, check_folder, flatten
from selector.stopping import Stopped, TerminateAsStopped

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

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
    arguments = get_args_parser().parse_args(list(argv))
    only_shows = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    folders: list[Path] = []
    launcher: str | None = None
    checked = False
    try:
        overrides = choose_own(continue_run(arguments.overrides))
        # The top-level folder sweeps/ is a config group: the root must be on Hydra's search path, wherever it lies.
        overrides.append(f"hydra.searchpath=['file://{config_dir.parent}']")
        sys.argv[1:] = [a for a in argv if a not in arguments.overrides] + overrides
        if not only_shows:
            with initialize_config_dir(str(config_dir), version_base="1.3", job_name="train"):
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
    if arguments.multirun and not only_shows:
        return sweep.end(folders)
    return 3 if sweep.any_failed() or any((folder / sweep.FAILED).exists() for folder in folders) else 0


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
    started_with = [str(o) for o in OmegaConf.load(stored) if not elsewhere.match(str(o))]
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
        return f"{' '.join(sys.argv[1:])}: must be key=value, with a key"
    message, cause = str(error), error.__cause__ or error
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    missing_key = re.search(r"Key '.*' (?:is not in struct|not in )(?s:.)*?full_key: (\S+)", str(cause))
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
