"""From a Hydra configuration to objects: the schema of the run-wide keys, and building with checks.

What may stand under a group (``strategy``, ``tau``, …) is the signature of the class that its ``_target_`` names:
there is one list of options, the constructor's. Importing this module does not import torch.
"""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from selector.building import build, fits, no_such, type_name, under
from selector.errors import InvalidInput, check_at_least, check_positive
from selector.targets import is_own

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from selector.critics import Critic
    from selector.critics.learned import LearnedCritic
    from selector.networks import Network
    from selector.optimizer import OptimizerOptions
    from selector.problems import Problem
    from selector.schedules import EntropyBonus, Schedule
    from selector.strategies import Strategy

# Bytes of held-out items beyond which a run says how many they are.
_MANY_HELD_OUT = 2**30


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


@dataclass(frozen=True)
class Experiment:
    """All objects of one training run, checked and ready for :func:`selector.fit`."""

    problem: "Problem"
    network: "Network"
    strategy: "Strategy"
    tau: "Schedule"
    optimizer: "OptimizerOptions"
    entropy: "EntropyBonus"
    trainer: dict[str, Any]
    critic: "LearnedCritic | None" = None


def build_experiment(cfg: DictConfig, *, measuring: bool = False) -> Experiment:
    """Build all objects that ``cfg`` describes. Nothing is written, no device is touched.

    Args:
        cfg: the run.
        measuring: nothing will be trained: a learned critic, and the table of past picks it wants, are left out.

    Raises:
        InvalidInput: naming the first key that is wrong.
    """
    from selector.actor_critic import check_actor_critic
    from selector.critics import SeparableCritic
    from selector.critics.check import check_critic
    from selector.gradients import check_probe
    from selector.items import Items
    from selector.networks import Network, Standardised
    from selector.optimizer import OptimizerOptions
    from selector.problems import Problem
    from selector.rewards.own import check_reward
    from selector.schedules import EntropyBonus, Schedule
    from selector.strategies import Strategy
    from selector.training import check_fit

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
    sizes = {key: cfg.problem[key] for key in ("N", "S", "D", "C")}
    for key, value in sizes.items():  # before anything is built from them
        check_at_least(0 if key == "C" else 1, **{f"problem.{key}": value})
    check_memory(cfg)
    trainer = trainer_arguments(cfg)
    trust = trusted(cfg)
    seeds = range(cfg.seed, cfg.seed + cfg.seeds)
    critic, learned = build_judges(cfg, trust, sizes, seeds, measuring=measuring)
    items = build(cfg["items"], "items", Items, trust=trust, **sizes)  # type: ignore[type-abstract]
    with under("problem"):
        problem = Problem(items, critic, **plain(cfg)["problem"])
    with under("entropy"):
        entropy = EntropyBonus(**plain(cfg)["entropy"])
    separable = learned is None and isinstance(critic, SeparableCritic)
    known = {**sizes, "seeds": seeds, "separable": separable}
    strategy = build(cfg.strategy, "strategy", Strategy, trust=trust, **known)  # type: ignore[type-abstract]
    tau = build(cfg.tau, "tau", Schedule, trust=trust)  # type: ignore[type-abstract]
    optimizer = build(cfg.optimizer, "optimizer", OptimizerOptions, trust=trust)  # type: ignore[type-abstract]
    try:
        network = build(cfg.network, "network", Network, trust=trust, **sizes, seeds=seeds)  # type: ignore[type-abstract]
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise InvalidInput("network", cfg.network._target_, "has more weights than fit into the memory") from None
    if items.scale is not None:
        network = Standardised(network, items.scale)
    check_fit(problem, network, strategy)
    check_queries(cfg, strategy.queries(problem.S, problem.N))
    if not measuring:
        check_actor_critic(problem, learned, strategy, trainer)
    if is_own(cfg.critic._target_):
        check_critic(problem, strategy.needs_gradient)
    if cfg.get("reward") is not None and cfg.reward._target_ is not None and is_own(cfg.reward._target_):
        check_reward(problem)
    if cfg.probe.every is not None:
        check_probe(problem)
    return Experiment(problem, network, strategy, tau, optimizer, entropy, trainer, learned)


def build_judges(
    cfg: DictConfig, trust: Sequence[str], sizes: Mapping[str, int], seeds: Sequence[int], *, measuring: bool = False
) -> "tuple[Critic, LearnedCritic | None]":
    """What choices are measured by, and the learned critic that the selector is trained through, if there is one.

    With ``measuring`` a learned critic is not built, nor is its table read.

    Raises:
        InvalidInput: naming the key of ``critic`` or ``reward`` that is wrong.
    """
    from selector.critics.black_box import BlackBox, black_box
    from selector.critics.learned import LearnedCritic
    from selector.critics.own import build_critic
    from selector.rewards.own import build_reward

    asked = cfg.get("reward")  # runs of before there were any have no such key
    reward = None if asked is None or asked._target_ is None else build_reward(asked, trust, **sizes)
    known = {"seeds": seeds, **({} if reward is None else {"reward": reward})}
    of_reward = [f"{kind.__module__}.{kind.__name__}" for kind in (LearnedCritic, BlackBox)]
    if (reward is None) == (cfg.critic.get("_target_") in of_reward):
        if reward is None:
            because = "must be a black box: reward=noisy_target, or reward._target_=my_module.my_reward"
            raise InvalidInput("reward", None, because)
        raise InvalidInput("reward", reward.title, "is for critic=learned, or critic=black_box")
    if measuring and reward is not None:
        return black_box(reward), None
    critic = build_critic(cfg.critic, trust, **sizes, **known)
    if reward is None:
        return critic, None
    return black_box(reward), critic if isinstance(critic, LearnedCritic) else None


def check_memory(cfg: DictConfig) -> None:
    """Refuse sizes whose items or logits alone are larger than this machine's memory.

    Raises:
        InvalidInput: naming the key that is out of proportion.
    """
    there = memory()
    problem = cfg.problem
    items = 4 * problem.N * problem.D
    per_list = max(items, 4 * problem.N * problem.S)
    for key, needed in (
        ("problem.N" if problem.N >= problem.S else "problem.S", per_list),
        ("seeds", cfg.seeds * per_list),
        ("batch_size", cfg.seeds * cfg.batch_size * per_list),
        ("held_out", cfg.held_out * items),  # their logits come in chunks
    ):
        if needed > there:
            because = f"{needed / 2**30:.3g} GiB for items and logits alone, there are {there / 2**30:.3g}"
            raise InvalidInput(key, OmegaConf.select(cfg, key), f"too large: {because}")
    if cfg.held_out * items > _MANY_HELD_OUT:
        warnings.warn(
            f"held_out: {cfg.held_out} lists of {problem.N} items take {cfg.held_out * items / 2**30:.3g} GiB, and "
            f"every validation judges them all; held_out={max(1, _MANY_HELD_OUT // items)} takes no more than 1 GiB",
            stacklevel=2,
        )


def check_queries(cfg: DictConfig, queries: int) -> None:
    """Refuse a strategy that asks for so many selections of a list that they alone are larger than the memory.

    Raises:
        InvalidInput: naming the strategy.
    """
    # Of every selection at least an index of 8 bytes a slot, with and without masked items, the slots and their loss.
    needed = cfg.seeds * cfg.batch_size * queries * cfg.problem.S * 2 * (8 + 4 * cfg.problem.D)
    if needed > memory():
        raise InvalidInput(
            "strategy",
            cfg.strategy._target_.rpartition(".")[-1],
            f"asks for {queries:,} selections of every list: {needed / 2**30:,.4g} GiB, there are "
            f"{memory() / 2**30:.3g}; lower batch_size, or take another strategy",
        )


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def build_logger(cfg: DictConfig, seeds: Sequence[int]) -> "Logger | None":
    """The logger that ``cfg.logger`` describes, or None; it starts no run yet.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    if cfg.logger._target_ is None:
        return None
    from lightning.pytorch.loggers import Logger

    shown = plain(cfg, without=("logger", "resume"))
    trust = trusted(cfg)
    return build(cfg.logger, "logger", Logger, trust=trust, name=cfg.name, seeds=seeds, config=shown)  # type: ignore[type-abstract]


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


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer: from the accelerator group, and whatever stands under ``trainer``.

    Raises:
        InvalidInput: for a device that is not there, an argument that Lightning does not have, or one that has a key
            of its own here.
    """
    import lightning.pytorch as pl
    import torch

    asked = cfg.accelerator
    check_at_least(1, **{"accelerator.devices": asked.devices})
    there = {"cpu": 10**6, "gpu": torch.cuda.device_count(), "cuda": torch.cuda.device_count()}
    there["mps"] = int(torch.backends.mps.is_available())
    there["auto"] = 10**6
    if asked.accelerator not in there:
        raise InvalidInput("accelerator.accelerator", asked.accelerator, f"must be one of {', '.join(there)}")
    if not there[asked.accelerator]:
        raise InvalidInput("accelerator.accelerator", asked.accelerator, "no such device is here; try accelerator=cpu")
    if asked.devices > there[asked.accelerator]:
        raise InvalidInput("accelerator.devices", asked.devices, f"only {there[asked.accelerator]} are here")

    given = plain(cfg)["trainer"] or {}
    if not isinstance(given, dict):
        raise InvalidInput("trainer", given, "must be arguments of Lightning's Trainer, by name")
    hints = get_type_hints(pl.Trainer.__init__)
    elsewhere = {
        "max_steps": "max_steps",
        "max_epochs": "max_steps",
        "val_check_interval": "val_every",
        "check_val_every_n_epoch": "val_every",
        "gradient_clip_val": "optimizer.clip",
        "logger": "logger",
        "accelerator": "accelerator.accelerator",
        "devices": "accelerator.devices",
        "strategy": "accelerator.strategy",
        "precision": "accelerator.precision",
    }
    ours = ("callbacks", "plugins")  # a run without them would record nothing and keep no checkpoint
    allowed = [name for name in inspect.signature(pl.Trainer).parameters if name not in (*elsewhere, *ours)]
    for name, value in given.items():
        if name in elsewhere:
            raise InvalidInput(f"trainer.{name}", value, f"use {elsewhere[name]} instead")
        if name in ours:
            raise InvalidInput(f"trainer.{name}", value, "must be left out: a run has its own; see selector.fit")
        if name not in allowed:
            raise InvalidInput(f"trainer.{name}", value, no_such(name, allowed, "Lightning's Trainer has no argument"))
        if not fits(value, hints.get(name, Any)):
            raise InvalidInput(f"trainer.{name}", value, f"must be {type_name(hints[name])}")
    check_at_least(1, **{f"trainer.{key}": given.get(key) for key in ("accumulate_grad_batches", "num_nodes")})
    nodes = given.get("num_nodes", 1)
    if cfg.batch_size % (asked.devices * nodes):
        times = f" times trainer.num_nodes={nodes}" if nodes > 1 else ""
        raise InvalidInput(
            "batch_size", cfg.batch_size, f"must be a multiple of accelerator.devices={asked.devices}{times}"
        )
    if asked.precision.startswith("16") and cfg.optimizer.get("clip") is not None:
        # Fused optimizers undo the loss scale themselves, after clipping has seen the scaled gradients.
        raise InvalidInput("optimizer.clip", cfg.optimizer.clip, "must be null at 16-bit precision; bf16-mixed clips")
    return {
        "accelerator": asked.accelerator,
        "devices": asked.devices,
        "strategy": asked.strategy,
        "precision": asked.precision,
        **given,
    }


def check_trainer(arguments: dict[str, Any]) -> None:
    """Let Lightning judge the arguments of its Trainer.

    Raises:
        InvalidInput: with the first line of what Lightning says.
    """
    import lightning.pytorch as pl

    from selector.processes import cluster_plugins
    from selector.quiet import quiet_libraries

    ours: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    try:
        with quiet_libraries():
            pl.Trainer(**{**ours, "plugins": cluster_plugins(), **arguments})
    except Exception as error:  # Lightning looks at some arguments by using them
        because = (str(error) or type(error).__name__).splitlines()[0]
        at_fault = [name for name in ("precision", "strategy", "devices") if name in because.lower()]
        if at_fault:
            raise InvalidInput(f"accelerator.{at_fault[0]}", arguments[at_fault[0]], because) from None
        others = {
            name: value for name, value in arguments.items() if name not in ("accelerator", "precision", "strategy")
        }
        raise InvalidInput("trainer", others, because) from None


def load_run(folder: Path, needs: str, trust: Sequence[str] = ()) -> DictConfig:
    """The configuration that a run was started with.

    Args:
        folder: the run folder.
        needs: a file that must be in it.
        trust: packages that a ``_target_`` may come from; what the folder itself says of them does not count, for it
            may come from anywhere.

    Raises:
        InvalidInput: when ``folder`` is not a run folder, or what it says of the run is damaged.
    """
    stored = folder / ".hydra" / "config.yaml"
    if not folder.is_dir():
        raise InvalidInput("run", folder, "no such folder; must be a run folder")
    for path in (stored, stored.with_name("hydra.yaml"), folder / needs):
        if not path.is_file():
            raise InvalidInput("run", folder, f"is no run folder: {path.relative_to(folder)} is missing")
    reading = ".hydra/hydra.yaml"
    try:
        hydra = OmegaConf.load(stored.with_name("hydra.yaml"))
        reading = ".hydra/config.yaml"
        # ${hydra:…} in a stored configuration means the Hydra of that run, not of this process.
        OmegaConf.register_new_resolver("hydra", lambda key: OmegaConf.select(hydra.hydra, key), replace=True)
        cfg = OmegaConf.merge(OmegaConf.structured(Schema), OmegaConf.load(stored))  # with types, and what is new
        OmegaConf.resolve(cfg)
        assert isinstance(cfg, DictConfig)
        cfg.name = folder.name
        cfg.trust = list(trust)
        if OmegaConf.missing_keys(cfg):
            raise ValueError(f"it says nothing of {min(OmegaConf.missing_keys(cfg))}")
    except Exception as error:  # yaml and OmegaConf raise a dozen kinds for what is no configuration
        because = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInput("run", folder, f"{reading} does not describe a run ({because[:120]})") from None
    return cfg
