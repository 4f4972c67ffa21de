"""Train a selector: python train.py strategy=st_gumbel problem=seed_question seeds=5 …

Every option of configs/ can be given as key=value; `python train.py --help` lists them.
"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import selector.config  # noqa: F401 - registers the schema that configs/train.yaml starts from
from selector import sweep
from selector.allocation import keep_memory
from selector.errors import InvalidInput
from selector.files import sole_process
from selector.launch import main
from selector.launchers import requeueing
from selector.processes import is_lead

CONFIGS = Path(__file__).resolve().parent / "configs"


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def train(cfg: DictConfig) -> None:
    """One job."""
    keep_memory()  # where a cluster's job begins
    from rich.console import Console

    from selector.run import run

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # shorter to read, and to paste
    multirun = hydra_config.mode is RunMode.MULTIRUN
    if multirun and sweep.is_launched():
        cfg.resume = "auto"  # the folder was checked before: what is in it is this job's own earlier attempt
    if not is_lead():
        with requeueing():
            run(cfg, folder, Console(quiet=True))
        return
    if multirun:
        cfg.name = f"{folder.parent.name}-{folder.name}"  # jobs of a sweep may share everything but a number
        Console().rule(sweep.progress(hydra_config.job.num))
    try:
        with sole_process(folder) if multirun else nullcontext():  # launch.main keeps a single run's folder
            try:
                sweep.start(folder)
                with requeueing():
                    run(cfg, folder, Console())
            except Exception as error:  # one job's failure must not end the others
                if os.environ.get("HYDRA_FULL_ERROR") == "1" or (isinstance(error, InvalidInput) and not multirun):
                    raise
                sweep.fail(folder, hydra_config.overrides.task)
    except InvalidInput as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)  # no error.txt: the folder may be another process's
        if not multirun:
            sys.exit(2)


if __name__ == "__main__":
    sys.exit(main(train, CONFIGS, sys.argv[1:]))
