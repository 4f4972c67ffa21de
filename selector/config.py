"""The configuration: the schema of the run-wide keys, and what can be checked before anything is built.

What may stand under a group (``strategy``, ``tau``, …) is the signature of the class that its ``_target_`` names:
there is one list of options, the constructor's. Importing this module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from selector.building import build, no_such, under
from selector.errors import InvalidInput, check_at_least, check_positive
from selector.memory import check_sizes
from selector.schedules import EntropyBonus, Schedule


@dataclass
class ProblemSchema:
    """Sizes; see :class:`selector.problems.Problem`."""

    N: int = MISSING
    S: int = MISSING
    D: int = MISSING
    C: int = 0
    max_enumeration: int = 65_536
    eligible: float = 1.0
    eligible_per: str = "list"
    without_replacement: bool = False


@dataclass
class AcceleratorSchema:
    """Where and how precisely to compute; the first four are arguments of Lightning's Trainer."""

    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    tf32: bool = MISSING
    compile: bool = MISSING


@dataclass
class EntropySchema:
    """The entropy bonus; see :class:`selector.schedules.EntropyBonus`."""

    start: float = 0.0
    end: float = 0.0
    steps: int = MISSING


@dataclass
class ProbeSchema:
    """Measuring the gradient while training; see :class:`selector.probe.GradientProbe`."""

    every: int | None = None


@dataclass
class Schema:
    """The keys of configs/train.yaml and their types; groups without a type here are checked when they are built."""

    name: str = MISSING
    seed: int = MISSING
    seeds: int = MISSING
    max_steps: int = MISSING
    batch_size: int = MISSING
    val_every: int = MISSING
    held_out: int = MISSING
    entropy: EntropySchema = field(default_factory=EntropySchema)
    probe: ProbeSchema = field(default_factory=ProbeSchema)
    stop_at_regret: float | None = None
    patience: int | None = None
    trust: list[str] = field(default_factory=list)
    steps_per_call: int | None = None
    resume: str | None = None
    checkpoints_required: bool = True
    problem: ProblemSchema = field(default_factory=ProblemSchema)
    reward: Any = None
    items: Any = MISSING
    critic: Any = MISSING
    network: Any = MISSING
    strategy: Any = MISSING
    tau: Any = MISSING
    optimizer: Any = MISSING
    accelerator: AcceleratorSchema = field(default_factory=AcceleratorSchema)
    logger: Any = MISSING
    trainer: Any = MISSING


ConfigStore.instance().store(name="schema", node=Schema)


def check_config(cfg: DictConfig) -> None:
    """Refuse what can be seen to be wrong without torch: keys, sizes and other numbers, and the schedules.

    Raises:
        InvalidInput: naming the first key that is wrong.
    """
    for prefix, node, schema in (
        ("", cfg, Schema),
        ("problem.", cfg.problem, ProblemSchema),
        ("accelerator.", cfg.accelerator, AcceleratorSchema),
        ("entropy.", cfg.entropy, EntropySchema),
        ("probe.", cfg.probe, ProbeSchema),
    ):
        keys = [f.name for f in fields(schema)]
        for name in map(str, node):  # +key=value adds a key whatever the schema says
            if name not in (*keys, "hydra"):
                raise InvalidInput(f"{prefix}{name}", node[name], no_such(name, keys, "there is no key"))
    check_at_least(1, **{key: cfg[key] for key in ("seeds", "max_steps", "batch_size", "val_every", "held_out")})
    check_at_least(0, seed=cfg.seed)
    check_at_least(1, patience=cfg.patience)
    check_at_least(1, **{"probe.every": cfg.probe.every})
    check_positive(stop_at_regret=cfg.stop_at_regret)
    check_at_least(1, **{f"problem.{key}": cfg.problem[key] for key in ("N", "S", "D")})
    check_at_least(0, **{"problem.C": cfg.problem.C})
    check_sizes(cfg)
    check_at_least(1, **{"accelerator.devices": cfg.accelerator.devices})
    build_schedules(cfg)


def build_schedules(cfg: DictConfig) -> tuple[Schedule, EntropyBonus]:
    """The temperature and the entropy bonus.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    with under("entropy"):
        entropy = EntropyBonus(**plain(cfg)["entropy"])
    return build(cfg.tau, "tau", Schedule, trust=trusted(cfg)), entropy  # type: ignore[type-abstract]


def trusted(cfg: DictConfig) -> list[str]:
    """The packages that ``trust`` names.

    Raises:
        InvalidInput: for what is no name of a package.
    """
    for name in cfg.trust:
        if not str(name).isidentifier():
            raise InvalidInput("trust", name, "must be names of installed packages, without dots: trust=[package]")
    return [str(name) for name in cfg.trust]


def plain(cfg: DictConfig, without: Sequence[str] = ()) -> dict[str, Any]:
    """The resolved configuration as plain dicts and lists."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key not in (*without, "hydra")}
