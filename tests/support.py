"""What several test files share: composing configurations, and a small problem to train on."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

import selector.config  # noqa: F401 - registers the schema that configs/train.yaml starts from
from selector.critics import TargetValue
from selector.items import Uniform
from selector.launch import main
from selector.networks import MLP
from selector.problems import Problem

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"

# A run of a second or two: `python train.py` with these.
SHORT = ["max_steps=20", "val_every=10", "held_out=32", "batch_size=16", "network.width=8"]


def names(group: str) -> list[str]:
    """The choices of a configuration group: the names of its yaml files."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def compose(*overrides: str) -> DictConfig:
    """The configuration of ``python train.py <overrides>``, not to be changed."""
    cfg = _compose(overrides)
    HydraConfig.instance().set_config(cfg)
    return cfg


@cache  # a fifth of a second each
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        return hydra.compose("train", overrides=list(overrides), return_hydra_config=True)


@contextmanager
def own_module(folder: Path, name: str, source: str) -> Iterator[None]:
    """Work in a folder that holds a module of the user's own."""
    (folder / f"{name}.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield


def train_runs(folder: Path, runs: Mapping[str, Sequence[str]]) -> None:
    """Short runs in ``folder``/outputs: name -> overrides."""
    from train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, overrides in runs.items():
            arguments = [*SHORT, *overrides, f"name={name}", "logger=none"]
            patch.setattr(sys, "argv", ["train.py", *arguments])
            assert main(train, CONFIGS, arguments) == 0


def small_problem(N: int = 4, S: int = 2, D: int = 1) -> Problem:
    """Items uniform in [0, 1), every slot wants the one nearest .5."""
    return Problem(Uniform(0.0, 1.0), TargetValue(0.5), N=N, S=S, D=D)


def small_network(seeds: tuple[int, ...] = (0,), **options: Any) -> MLP:
    """The network of :func:`small_problem`."""
    return MLP(**{"N": 4, "S": 2, "D": 1, "width": 8, **options}, seeds=seeds)


def total(slots: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A reward: ``[M, S, D] -> [M]``."""
    worth: np.ndarray[Any, Any] = slots.sum((-1, -2))
    return worth


def quadratic(slots: Tensor) -> Tensor:
    """A quadratic loss that couples the slots: ``[Q, *, S, D] -> [Q, *]``."""
    return (slots.sum(-2) - 1.0).square().sum(-1) + (slots - 0.25).square().sum((-1, -2))
