"""Every file in sweeps/wandb: W&B would understand it, and every combination is a command line that trains."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from selector.composing import jobs
from selector.experiment import build_experiment, build_logger
from tests.support import CONFIGS, ROOT

FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))
MACROS = {"${env}", "${interpreter}", "${program}", "${args_no_hyphens}"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def combinations(sweep: Any) -> list[dict[str, Any]]:
    """What an agent may be asked to run; of a range, its two ends."""

    def choices(parameter: dict[str, Any]) -> list[Any]:
        if "value" in parameter:
            return [parameter["value"]]
        return list(parameter.get("values") or (parameter["min"], parameter["max"]))

    parameters = sweep["parameters"]
    return [dict(zip(parameters, chosen, strict=True)) for chosen in product(*map(choices, parameters.values()))]


def overrides(sweep: Any, chosen: dict[str, Any]) -> list[str]:
    """The command line as the agent makes it: ``${args_no_hyphens}`` becomes key=value for every parameter."""
    fixed = [part for part in sweep["command"] if part not in MACROS]
    return [*fixed, *(f"{key}={value}" for key, value in chosen.items())]


def test_there_are_some() -> None:
    assert {path.stem for path in FILES} >= {"seed_question", "temperature", "scale"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_opens_with_its_question_and_its_command(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert "?" in lines[0]
    assert f"wandb sweep --project selector sweeps/wandb/{path.name}" in lines[1]
    assert "wandb agent" in lines[2]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_agent_can_run_it(path: Path) -> None:
    sweep = read(path)
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["method"] in ("grid", "random", "bayes")
    assert sweep["metric"] == {"name": sweep["metric"]["name"], "goal": "minimize"}
    assert sweep["metric"]["name"] in ("final/regret", "val/regret")
    # Hydra knows no --key=value and no ++group=choice; the environment and the interpreter are the agent's own.
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "${program}"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert "logger.mode=online" in sweep["command"]
    for key, parameter in sweep["parameters"].items():
        assert "parameters" not in parameter, f"{key}: nested parameters do not reach Hydra; dotted keys do"
        assert None not in (parameter.get("values") or []), f"{key}: null would arrive as the word None"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_combination_composes_and_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    sweep = read(path)
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        for chosen in combinations(sweep):
            cfg = hydra_compose("train", overrides=overrides(sweep, chosen), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            assert cfg.name == "wandb-given"  # two agents of one machine never share a run folder
            experiment = build_experiment(cfg)
            assert build_logger(cfg, experiment.network.seeds) is not None


def test_the_seed_question_is_the_same_one_as_in_hydras_file() -> None:
    sweep = read(ROOT / "sweeps" / "wandb" / "seed_question.yaml")
    searchpath = f"hydra.searchpath=['file://{ROOT}']"
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        theirs = [{o for o in job if "searchpath" not in o} for job in jobs(["sweeps=seed_question", searchpath])]
    ours = [{"sweeps=seed_question", *(f"{k}={v}" for k, v in chosen.items())} for chosen in combinations(sweep)]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, theirs))
    assert "seeds=10" in sweep["command"]
