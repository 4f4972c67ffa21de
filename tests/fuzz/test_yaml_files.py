"""Malformed yaml files of a user, and of a run folder: one line that names the file or the key, exit code 2, no more.

A sample of the files under configs each time, all of them with SELECTOR_CORPUS=all.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selector.__main__ import main as command
from selector.launch import main
from tests.support import CONFIGS

WHOLE = os.environ.get("SELECTOR_CORPUS") == "all"

# What is no mapping that yaml and OmegaConf can read.
BROKEN = {
    "a tab": b"a:\n\t- b\n",
    "an open bracket": b"_target_: [",
    "code": b"!!python/object/apply:os.system ['touch hacked']\n",
    "code as a value": b"_target_: !!python/object/apply:os.system ['touch hacked']\n",
    "a module": b"_target_: !!python/name:os.system\n",
    "bytes": bytes(range(256)),
    "latin-1": "a: é\n".encode("latin-1"),
    "utf-16": "a: 1\n".encode("utf-16"),
    "a zero byte": b"a: \x00\n",
    "a number": b"5\n",
    "a key twice": b"_target_: a\n_target_: b\n",
    "an anchor in itself": b"a: &a [*a]\n",
    "a deep list": b"a: " + b"[" * 3000 + b"]" * 3000,
    "keys of all types": b"1: 2\nnull: 3\n? [1, 2]\n: 4\n",
    "a merge with a number": b"<<: 5\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "a set": b"a: !!set {x, y}\n",
    "no base64": b"a: !!binary xx\n",
    "no number": b"a: !!int abc\n",
    "an unknown alias": b"a: *b\n",
}
# What can be read, and is no strategy.
WRONG = {
    "a list": b"- 1\n- 2\n",
    "a text": b"just text\n",
    "nothing": b"",
    "null": b"null\n",
    "a loop": b"a: ${.b}\nb: ${.a}\n",
    "itself": b"_target_: ${strategy._target_}\n",
    "an unknown default": b"defaults: [nope]\n",
    "a number as defaults": b"defaults: 5\n",
    "a mapping as defaults": b"defaults: {a: 1}\n",
    "a list in defaults": b"defaults: [[1]]\n",
    "itself in defaults": b"defaults: [x]\n",
    "a late override": b"defaults:\n- override /tau: nope\n",
    "a list as target": b"_target_: [1]\n",
    "a number as target": b"_target_: 7\n",
    "a date as target": b"_target_: 2020-01-01\n",
    "a missing target": b"_target_: ???\n",
    "an unknown resolver": b"_target_: ${nope:1}\n",
    "an unset variable": b"_target_: ${oc.env:SELECTOR_NO_SUCH}\n",
    "a foreign target": b"_target_: os.system\n",
    "a bad package": b"# @package\n_target_: a\n",
    "another package": b"# @package nope.x\n_target_: a\n",
    "a wrong type": b"# @package _global_\nmax_steps: x\n",
    "callbacks": b"# @package _global_\nhydra: {callbacks: {x: {_target_: os.system}}}\n",
    "a search path": b"# @package _global_\nhydra: {searchpath: ['pkg://os']}\n",
}
FILES = BROKEN | WRONG


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("code was run"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


def the_line(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The only line that was printed."""
    out, err = capsys.readouterr()
    assert code == 2, out + err
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def never() -> None:
    pytest.fail("it was run")


@pytest.mark.parametrize("name", sorted(FILES)[:: 1 if WHOLE else 3])
@pytest.mark.parametrize("group", ["strategy", "sweeps"])
def test_a_configuration_of_the_users_own(
    group: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "own" / group / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(FILES[name])
    many = ["-m"] if group == "sweeps" else []
    line = the_line(main(never, CONFIGS, [*many, "--config-dir", "own", f"{group}=x", "logger=none"]), capsys)
    if name in BROKEN:
        assert f"own/{group}/x.yaml" in line
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_search(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "search.yaml").write_bytes(FILES[name])
    line = the_line(command(["tune", "search.yaml", "--out", "out"]), capsys)
    if name in BROKEN:
        assert "search.yaml" in line
    assert [path.name for path in folder.iterdir()] == ["search.yaml"]


COMMANDS: dict[str, Callable[[], int]] = {
    "resume": lambda: main(never, CONFIGS, ["resume=run", "max_steps=6"]),
    "resume=auto": lambda: main(never, CONFIGS, ["hydra.run.dir=run", "resume=auto", "logger=none"]),
    "evaluate": lambda: command(["evaluate", "run"]),
    "predict": lambda: command(["predict", "run", "items.npy", "--out", "picks.npz"]),
    "export": lambda: command(["export", "run", "--format", "torch", "--out", "selector.pt2"]),
    "probe": lambda: command(["probe", "--run", "run"]),
    "report": lambda: command(["report", "run"]),
    "reproduce": lambda: command(["reproduce", "run"]),
}
# Which command reads which file first.
READS = {
    "config.yaml": ["resume=auto", "evaluate", "predict", "export", "probe", "report", "reproduce"],
    "hydra.yaml": ["evaluate", "predict", "report"],
    "overrides.yaml": ["resume"],
}
OVERRIDES = {
    "a number": b"- 5\n",
    "lists": b"- [1]\n",
    "a mapping": b"a: 1\n",
    "no override": b"- 'max_steps=['\n",
    "no value": b"- x\n",
    "several values": b"- seed=1,2\n",
    "code": b"- critic._target_=os.system\n",
    "a package": b"- hydra.searchpath=[pkg://os]\n",
}


def stored(folder: Path, file: str, content: bytes) -> None:
    """What looks like a run folder, of which one file is ``content``."""
    run = folder / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (run / "checkpoints" / name).touch()
    (run / "metrics.csv").touch()
    (run / "result.json").write_text("{}")
    sound = {"config.yaml": b"seed: 0\n", "hydra.yaml": b"hydra: {}\n", "overrides.yaml": b"[]\n"}
    for name, text in (sound | {file: content}).items():
        (run / ".hydra" / name).write_bytes(text)


@pytest.mark.parametrize("name", [*sorted(BROKEN), "a list", "a text", "nothing", "a loop"])
@pytest.mark.parametrize("file", READS)
def test_a_stored_configuration(file: str, name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command in turn with the next file: all are tried, and each file meets one."""
    stored(folder, file, FILES[name])
    before = sorted(folder.rglob("*"))
    tried = READS[file] if WHOLE else [READS[file][sorted(FILES).index(name) % len(READS[file])]]
    for one in tried:
        if name not in BROKEN and one == "resume=auto":
            continue  # a mapping that lacks keys: the first of them is named
        line = the_line(COMMANDS[one](), capsys)
        assert ".hydra" in line, one
        assert "run" in line, one
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", OVERRIDES)
def test_stored_overrides(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(folder, "overrides.yaml", OVERRIDES[name])
    before = sorted(folder.rglob("*"))
    the_line(COMMANDS["resume"](), capsys)
    assert sorted(folder.rglob("*")) == before
