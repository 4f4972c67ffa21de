"""Every yaml composes and builds, and offers exactly the options that its constructor has."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import initialize_config_dir

from selector.building import resolve
from selector.composing import compose_job, jobs
from selector.experiment import build_experiment, build_logger
from selector.launchers import LAUNCHERS, check_options
from tests.support import CONFIGS, ROOT, compose, names

# What each group's target gets from elsewhere, and so must not offer.
GIVEN: dict[str, set[str]] = {
    "items": {"N", "S", "D", "C"},
    "critic": {"N", "S", "D", "C", "seeds", "reward"},
    "reward": {"N", "S", "D", "C"},
    "network": {"N", "S", "D", "C", "seeds"},
    "strategy": {"N", "S", "D", "C", "seeds", "separable"},
    "tau": set(),
    "optimizer": set(),
    "logger": {"name", "seeds", "config"},
}
# Groups of plain keys, whose types the schema checks.
PLAIN = {"problem", "accelerator", "experiment"}

EVERY = [(group, name) for group in sorted({*GIVEN, *PLAIN}) for name in names(group)]
WITHOUT_LAYERS = {"free_logits"} | set(names("experiment"))
SMALL = ["batch_size=4", "network.width=8", "held_out=8"]


def test_every_yaml_is_composed_by_a_test() -> None:
    """A new group, or a yaml in a subfolder, must be added here."""
    found = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")}
    launchers = {f"hydra/launcher/{name}" for name in names("hydra/launcher")}
    assert found == {"train", *(f"{group}/{name}" for group, name in EVERY), *launchers}


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_it_composes_and_builds(group: str, name: str, tmp_path: Path) -> None:
    overrides = [f"{group}={name}", *SMALL]
    if name in WITHOUT_LAYERS:
        overrides.remove("network.width=8")
    if (group, name) == ("problem", "distinct"):
        overrides.append("strategy=st_gumbel_sequential")
    if (group, name) == ("items", "fixed"):
        overrides.append("problem.N=2")  # as many as the file lists
    if (group, name) == ("critic", "own"):
        overrides.append("critic._target_=tests.support.quadratic")
    if (group, name) in (("critic", "learned"), ("critic", "offline"), ("critic", "black_box")):
        overrides.append("reward=noisy_target")
    if (group, name) == ("critic", "black_box"):
        overrides.append("strategy=rloo")
    if (group, name) == ("critic", "offline"):
        np.save(tmp_path / "past.npy", np.random.default_rng(0).normal(size=(20, 5)))
        overrides.append(f"critic.table={tmp_path}/past.npy")
    if group == "reward" and name != "none":
        overrides += ["critic=learned", "problem.D=2"]
    if (group, name) == ("reward", "own"):
        overrides.append("reward._target_=tests.support.total")
    if (group, name) == ("items", "file"):
        np.save(tmp_path / "items.npy", np.random.default_rng(0).normal(size=(10, 8, 1)))
        overrides.append(f"items.path={tmp_path}/items.npy")
    if group == "items" and name.startswith("columns"):
        overrides.append(f"problem.N={30 if name.endswith('breast_cancer') else 64}")  # as many as the table has
    if group == "problem":
        overrides.append("network=pointer")  # the mlp of the large problem has millions of weights
    if (group, name) == ("accelerator", "gpu"):
        overrides.append("accelerator.accelerator=cpu")  # the devices of this machine are not the file's business
    cfg = compose(*overrides)
    experiment = build_experiment(cfg)
    assert experiment.problem.N == cfg.problem.N
    assert experiment.tau(0) > 0
    logger = build_logger(cfg, experiment.network.seeds)
    assert (logger is None) == (cfg.logger._target_ is None)


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, n in EVERY if g in GIVEN])
def test_its_options_are_those_of_the_constructor(group: str, name: str) -> None:
    """So that Hydra itself refuses an option that does not exist."""
    if name == "own":
        pytest.skip("the options are those of the user's own code")
    node: Any = compose(f"{group}={name}")[group]
    options = set(node) - {"_target_"}
    if node._target_ is None:
        assert not options
        return
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(resolve(node._target_, group, object)).parameters.values()
    assert options == {p.name for p in parameters if p.kind not in variadic} - GIVEN[group]


@pytest.mark.parametrize("group", sorted({*GIVEN, *PLAIN}))
def test_every_file_says_what_it_is(group: str) -> None:
    for name in names(group):
        first = (CONFIGS / group / f"{name}.yaml").read_text().splitlines()[0]
        assert first.startswith("#") or group == "optimizer", f"{group}/{name}.yaml has no comment in front"


@pytest.mark.parametrize("question", sorted(p.stem for p in (ROOT / "sweeps").glob("*.yaml")))
def test_the_jobs_of_every_sweep_build(question: str) -> None:
    """As ``python train.py -m sweeps=<question>`` would run them, each in a folder of its own."""
    overrides = [f"sweeps={question}", f"hydra.searchpath=['file://{ROOT}']"]
    folders = []
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        for number, job in enumerate(jobs(overrides)):
            cfg = compose_job(job, number)
            build_experiment(cfg)
            assert cfg.hydra.sweep.dir == f"outputs/{question}"
            folders.append(cfg.hydra.sweep.subdir)
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("question", sorted(p.stem for p in (ROOT / "sweeps").glob("*.yaml")))
def test_every_sweep_says_what_it_answers_and_costs(question: str) -> None:
    package, asked, command, *rest = (ROOT / "sweeps" / f"{question}.yaml").read_text().splitlines()
    assert package == "# @package _global_"
    assert asked.endswith("?")
    assert command == f"# python train.py -m sweeps={question}"
    head = rest[: next(i for i, line in enumerate(rest) if not line.startswith("#"))]
    assert re.search(r"about \d+ minutes", " ".join(head))


def test_what_an_experiment_or_a_sweep_sets_holds_and_the_command_line_wins() -> None:
    root = f"hydra.searchpath=['file://{ROOT}']"
    cfg = compose("experiment=polynomial")
    assert (cfg.max_steps, cfg.batch_size, cfg.optimizer.lr) == (8000, 64, 0.001)
    cfg = compose("sweeps=seed_question", root)
    assert (cfg.seeds, cfg.hydra.sweep.dir) == (10, "outputs/seed_question")
    assert compose("sweeps=seed_question", "seeds=2", root).seeds == 2


def test_a_strategy_brings_its_own_temperature_and_the_command_line_wins() -> None:
    assert compose("strategy=st_argmax").tau.value == 0.6
    assert compose("strategy=st_gumbel").tau._target_.endswith("Exponential")
    assert compose("strategy=st_argmax", "tau=constant", "tau.value=2").tau.value == 2
    assert compose("strategy=temperature_softmax", "tau.value=1e-5").tau.value == 1e-5
    assert compose("tau=linear", "max_steps=123").tau.steps == 123


def test_a_problem_brings_its_own_items_and_critic_and_the_command_line_wins() -> None:
    cfg = compose("problem=seed_question_scaled")
    assert (cfg["items"].high, cfg.critic.target) == (1.0, 0.5)
    assert compose("problem=seed_question_scaled", "critic=sum_target").critic._target_.endswith("SumTarget")


def test_an_experiment_changes_run_wide_keys_and_the_command_line_wins() -> None:
    cfg = compose("experiment=polynomial", "strategy=st_gumbel")
    assert (cfg.max_steps, cfg.batch_size, cfg.optimizer.lr) == (8000, 64, 0.001)
    assert cfg.tau._target_.endswith("Constant"), "an experiment's temperature wins over the strategy's own"
    assert compose("experiment=polynomial", "max_steps=7").max_steps == 7


def test_a_sweep_file_changes_run_wide_keys() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        overrides = ["sweeps=seed_question", f"hydra.searchpath=['file://{ROOT}']"]
        cfg = compose_job(overrides)
    assert cfg.seeds == 10
    assert cfg.hydra.sweep.dir == "outputs/seed_question"


@pytest.mark.parametrize("name", names("hydra/launcher"))
def test_a_launcher_offers_what_its_plugin_does(name: str) -> None:
    """And is accepted; with names of their own the options could not be misspelt unnoticed."""
    cfg = compose(f"hydra/launcher={name}")
    check_options(cfg)
    assert cfg.hydra.launcher._target_ == LAUNCHERS[name][1]
    listed = yaml.safe_load((CONFIGS / "hydra/launcher" / f"{name}.yaml").read_text())
    missing = set(cfg.hydra.launcher) - set(listed)
    if name != "submitit_local":
        assert not missing, "the file shows every option"
