"""What the README says is what the project does."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from selector.__main__ import main as evaluate
from selector.launch import main
from tests.support import CONFIGS, ROOT, SHORT, names
from train import train

README = (ROOT / "README.md").read_text()


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python train.py <arguments>`` in this process, from ``folder``."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main(train, CONFIGS, list(arguments))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks("python") if "import MLP, Problem" in block]
    assert len(example.strip().splitlines()) <= 12
    exec(example.replace("steps=2000", "steps=20"), {})
    assert capsys.readouterr().out.startswith("[")


def test_every_strategy_is_in_the_table() -> None:
    table = README[README.index("### Strategies") : README.index("### Checked against")]
    missing = [name for name in names("strategy") if f"`{name}`" not in table]
    assert missing == ["extreme_temperature"], "which is temperature_softmax at another tau"


def test_every_group_option_that_a_command_names_exists() -> None:
    for group, name in re.findall(r"(?<![.\w])(strategy|problem|network|tau|critic|items|experiment)=(\w+)\b", README):
        assert (CONFIGS / group / f"{name}.yaml").exists() or name in ("mine", "a"), f"{group}={name}"


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_critic_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = [block for block in blocks("python") if block.startswith("# my_module.py")]
    assert len([line for line in module.splitlines()[1:] if line]) <= 10
    (tmp_path / "my_module.py").write_text(module)
    (command,) = [line for line in README.splitlines() if line.startswith("python train.py critic._target_=")]
    assert start(tmp_path, monkeypatch, *command.split()[2:], *SHORT, "logger=none", "name=own") == 0
    assert evaluate(["evaluate", "outputs/own"]) == 0
    monkeypatch.chdir("/")  # a run does not say where code is imported from
    assert evaluate(["evaluate", str(tmp_path / "outputs" / "own")]) == 2


def test_what_the_readme_says_of_rewards_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the section, in few steps and with a small critic."""
    (module,) = [block for block in blocks("python") if block.startswith("# my_rewards.py")]
    (tmp_path / "my_rewards.py").write_text(module)
    slots = np.random.default_rng(0).uniform(0, 10, size=(30, 4, 1))
    np.savez(tmp_path / "past.npz", slots=slots, reward=-np.square(slots - 5).sum((1, 2)))
    section = README[README.index("### Rewards instead of a loss") : README.index("### Slots that must agree")]
    commands = re.findall(r"^python train.py (.*?)(?: +#.*)?$", section, re.M)
    assert len(commands) == 5
    few = ["max_steps=2", "val_every=2", "held_out=8"]
    small = ["critic.width=8", "critic.warmup_updates=2", "critic.rows=16", "critic.observations=4"]
    for number, command in enumerate(commands):
        more = (
            []
            if "black_box" in command
            else [option for option in small if "offline" not in command or "obs" not in option]
        )
        arguments = [
            *command.replace("seeds=10", "seeds=2").split(),
            *SHORT,
            *more,
            *few,
            "logger=none",
            f"name=run{number}",
        ]
        assert start(tmp_path, monkeypatch, *arguments) == 0, command
    assert evaluate(["evaluate", "outputs/run0"]) == 0
