"""What the README says is what the project does."""

import re

import pytest

from tests.support import CONFIGS, ROOT, names

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks("python") if "from selector import" in block]
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
