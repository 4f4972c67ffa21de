"""What a _target_ may name, and that nothing foreign is imported to find out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selector.errors import InvalidInput
from selector.schedules import Constant
from selector.targets import is_function_of, locate


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own; what tests import from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def refused(path: str, *trust: str) -> str:
    with pytest.raises(InvalidInput) as error:
        locate(path, "critic._target_", trust)
    assert error.value.key == "critic._target_"
    assert "\n" not in str(error.value)
    return str(error.value)


def test_names_of_this_package() -> None:
    assert locate("selector.schedules.Constant", "tau._target_") is Constant
    assert "no such class" in refused("selector.schedules.Nothing")
    assert "no such class" in refused("selector.nothing.Nothing")


@pytest.mark.parametrize(
    "path",
    ["", "name", ".x", "a..b", "a.b.", "/etc/passwd", "../mine.f", "mine.f()", "__import__('os').system", "a.if.b",
     "mine.f;import os", "mine .f", "mine.f\n", "https://host/mine.f", "lambda: 0", "mine.0"],
)  # fmt: skip
def test_what_is_no_dotted_name(path: str, here: Path) -> None:
    (here / "mine.py").write_text("raise SystemExit('imported')")
    assert "must be a dotted name" in refused(path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("top", ["antigravity", "wsgiref", "pytest_asyncio", "onnxruntime", "sympy", "turtledemo"])
def test_what_is_installed_is_refused_unimported(top: str) -> None:
    if top in sys.modules:
        pytest.skip(f"{top} has been imported by another test")
    refused(f"{top}.util.thing")
    assert top not in sys.modules
    assert f"{top}.util" not in sys.modules


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "path",
    ["os.system", "subprocess.Popen", "torch.load", "builtins.eval", "torch.nn.Linear", "__main__.main", "sys.exit"],
)
def test_the_classics(path: str) -> None:
    assert "trust=[" in refused(path)


def test_a_file_that_is_called_like_a_module_of_python(here: Path) -> None:
    (here / "os.py").write_text("def system(slots): return slots")
    assert "neither" in refused("os.system")


@pytest.mark.usefixtures("here")
def test_trust_names_a_package() -> None:
    import string

    assert locate("string.Template", "critic._target_", ["string"]) is string.Template
    assert "neither" in refused("string.Template", "strin")
    assert "no such class" in refused("string.Nothing", "string")


def test_own_code(here: Path) -> None:
    (here / "own_module.py").write_text("from os import system\nimport own_other\ndef mine(slots): return slots\n")
    (here / "own_other.py").write_text("")
    (here / "own_package" / "deep").mkdir(parents=True)
    (here / "own_package" / "deep" / "inner.py").write_text("class Thing: pass\n")
    assert "needs an __init__.py" in refused("own_package.deep.inner.Thing")
    for package in ("own_package", "own_package/deep"):
        (here / package / "__init__.py").write_text("")
    found = locate("own_module.mine", "critic._target_")
    assert is_function_of(found, "own_module.mine")
    assert not is_function_of(locate("own_module.system", "critic._target_"), "own_module.system")
    assert locate("own_package.deep.inner.Thing", "critic._target_").__name__ == "Thing"  # type: ignore[attr-defined]
    assert "did you mean mine?" in refused("own_module.mime")
    assert "no module own_package.deep" not in refused("own_package.deep.nothing.Thing")


def test_a_run_folder_brings_no_code_along(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = here / "own_sent" / "run"
    (run / ".hydra").mkdir(parents=True)
    for folder in (run.parent, run):
        (folder / "__init__.py").write_text("")
        (folder / "evil.py").write_text("raise SystemExit('imported')\n")
    assert "no such class" in refused("own_sent.run.evil.mine")
    (here / "own_link").symlink_to(run)
    assert "no such class" in refused("own_link.evil.mine")
    monkeypatch.chdir(run)
    assert "no such class" in refused("evil.mine")


def test_own_code_that_fails_is_one_line(here: Path) -> None:
    (here / "own_broken.py").write_text("def mine(slots)\n  return slots\n")
    (here / "own_exits.py").write_text("raise SystemExit(3)\n")
    assert "SyntaxError" in refused("own_broken.mine")
    assert "SystemExit: 3" in refused("own_exits.mine")


def test_own_code_that_another_module_hides(here: Path) -> None:
    """A file of the same name as a module that is loaded already: importing would give the other one."""
    (here / "pytest.py").write_text("def mine(slots): return slots\n")
    assert "hides" in refused("pytest.mine")
