"""Train a selector: python train.py strategy=st_gumbel problem=seed_question seeds=5 …

Every option of configs/ can be given as key=value; `python train.py --help` lists them.
"""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import selector.config  # noqa: F401 - registers the schema that configs/train.yaml starts from
from selector import sweep
from selector.errors import InvalidInput
from selector.files import sole_process
from selector.launch import main
from selector.processes import is_lead

CONFIGS = Path(__file__).resolve().parent / "configs"


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def train(cfg: DictConfig) -> None:
    """One job."""
    from rich.console import Console

    from selector.run import run

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # shorter to read, and to paste
    if not is_lead():
        run(cfg, folder, Console(quiet=True))
        return
    if hydra_config.mode is RunMode.MULTIRUN:
        cfg.name = f"{folder.parent.name}-{folder.name}"  # jobs of a sweep may share everything but a number
        Console().rule(sweep.progress(hydra_config.job.num))
    try:
        with sole_process(folder):
            sweep.start(folder)
            run(cfg, folder, Console())
    except InvalidInput:
        if hydra_config.mode is not RunMode.MULTIRUN:
            raise
        sweep.fail(folder, hydra_config.overrides.task)
    except Exception:  # one job's failure must not end the others
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sweep.fail(folder, hydra_config.overrides.task)


if __name__ == "__main__":
    sys.exit(main(train, CONFIGS, sys.argv[1:]))
