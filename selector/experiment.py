"""From a configuration to the objects of a run, each tried together with the others before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from selector.actor_critic import check_actor_critic
from selector.building import build, under
from selector.config import build_schedules, check_config, plain, trusted
from selector.critics import SeparableCritic
from selector.critics.check import check_critic
from selector.critics.learned import LearnedCritic
from selector.errors import InvalidInput
from selector.gradients import check_probe
from selector.items import Items
from selector.judges import build_judges
from selector.memory import check_queries, warn_of_held_out
from selector.networks import Network, Standardised
from selector.optimizer import OptimizerOptions
from selector.problems import Problem
from selector.rewards.own import check_reward
from selector.schedules import EntropyBonus, Schedule
from selector.strategies import Strategy
from selector.targets import is_own
from selector.trainer import trainer_arguments
from selector.training import check_fit


@dataclass(frozen=True)
class Experiment:
    """All objects of one training run, checked and ready for :func:`selector.fit`."""

    problem: Problem
    network: Network
    strategy: Strategy
    tau: Schedule
    optimizer: OptimizerOptions
    entropy: EntropyBonus
    trainer: dict[str, Any]
    critic: LearnedCritic | None = None


def build_experiment(cfg: DictConfig, *, measuring: bool = False) -> Experiment:
    """Build all objects that ``cfg`` describes. Nothing is written, no device is touched.

    Args:
        cfg: the run.
        measuring: nothing will be trained: a learned critic, and the table of past picks it wants, are left out.

    Raises:
        InvalidInput: naming the first key that is wrong.
    """
    check_config(cfg)
    warn_of_held_out(cfg)
    trainer = trainer_arguments(cfg)
    trust = trusted(cfg)
    sizes = {key: cfg.problem[key] for key in ("N", "S", "D", "C")}
    seeds = range(cfg.seed, cfg.seed + cfg.seeds)
    critic, learned = build_judges(cfg, trust, sizes, seeds, measuring=measuring)
    items = build(cfg["items"], "items", Items, trust=trust, **sizes)  # type: ignore[type-abstract]
    with under("problem"):
        problem = Problem(items, critic, **plain(cfg)["problem"])
    separable = learned is None and isinstance(critic, SeparableCritic)
    known = {**sizes, "seeds": seeds, "separable": separable}
    strategy = build(cfg.strategy, "strategy", Strategy, trust=trust, **known)  # type: ignore[type-abstract]
    tau, entropy = build_schedules(cfg)
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


def build_logger(cfg: DictConfig, seeds: Sequence[int]) -> Logger | None:
    """The logger that ``cfg.logger`` describes, or None; it starts no run yet.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    if cfg.logger._target_ is None:
        return None
    shown = plain(cfg, without=("logger", "resume"))
    trust = trusted(cfg)
    return build(cfg.logger, "logger", Logger, trust=trust, name=cfg.name, seeds=seeds, config=shown)  # type: ignore[type-abstract]
