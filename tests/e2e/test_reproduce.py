"""A run says where its numbers come from, and can be made again."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selector.__main__ import main as command
from selector.loading import read_checkpoint
from selector.provenance import git_state
from selector.reproduce import Difference, differences
from selector.stopping import Stopped
from tests.e2e.test_resume import SMALL, start


def test_a_run_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, monkeypatch, *SMALL, "max_steps=30", "seeds=2", "strategy=relax", "probe.every=10") == 0
    folder = Path("outputs/x")
    result = json.loads((folder / "result.json").read_text())
    assert result["versions"]["torch"] == torch.__version__
    assert result["device"] == {"name": "cpu", "machine": result["device"]["machine"], "threads": 1}
    assert result["seeds"] == [0, 1]
    about = read_checkpoint(folder / "checkpoints/last.ckpt")["about"]
    assert about.pop("run_digest")
    assert about == {key: result[key] for key in ("config_digest", "versions", "git", "device", "seeds")}

    capsys.readouterr()
    assert command(["reproduce", "outputs/x"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("identical: every metric of outputs/x and outputs/x-again\n")
    assert (Path("outputs/x-again") / "result.json").exists()

    text = (folder / "metrics.csv").read_text().splitlines()
    row = next(i for i, line in enumerate(text) if line.startswith("20,") and ",1,val/regret," in line)
    text[row] = text[row].rsplit(",", 1)[0] + ",0.25"
    (folder / "metrics.csv").write_text("\n".join(text) + "\n")
    result["versions"]["torch"] = "1.0"
    (folder / "result.json").write_text(json.dumps(result))
    assert command(["reproduce", "outputs/x", "--out", "outputs/third"]) == 1
    out = capsys.readouterr().out
    assert f"torch was 1.0, is {torch.__version__}\n" in out
    assert "different: 1 numbers" in out
    assert "val/regret" in out
    assert "0.25" in out

    assert command(["reproduce", "outputs/x", "--out", "outputs/third"]) == 2
    assert capsys.readouterr().err == "error: --out=outputs/third: must be a new folder\n"

    def failed(error: BaseException) -> Callable[..., None]:
        def fail(*_: object) -> None:
            raise error

        return fail

    for error, code in ((FloatingPointError("no seed\nis left"), 3), (OSError("disk full"), 3), (Stopped(15), 143)):
        with monkeypatch.context() as patch:
            patch.setattr("selector.run.run", failed(error))
            assert command(["reproduce", "outputs/x", "--trust", "torch"]) == code
        assert capsys.readouterr().err.count("\n") == 1

    # What a damaged folder says: one line that names the file, and no folder is made.
    there = set(Path("outputs").iterdir())
    damages = [
        ("result.json", "{", "reproduce"),
        ("result.json", '{"versions":{},"device":{}}', "reproduce"),
        ("result.json", '{"versions":[],"device":{"threads":1}}', "reproduce"),
        ("result.json", '{"versions":{},"device":{"threads":true}}', "reproduce"),
        ("result.json", '{"versions":{},"device":{"threads":1},"git":5}', "reproduce"),
        ("metrics.csv", None, "reproduce"),
        ("metrics.csv", None, "evaluate"),
        ("metrics.csv", "a,b\n", "evaluate"),
        (".hydra/config.yaml", "a: [", "evaluate"),
        (".hydra/hydra.yaml", "a: [", "reproduce"),
    ]
    for name, content, what in damages:
        before = (folder / name).read_bytes()
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        assert command([what, "outputs/x"]) == 2, (name, content)
        err = capsys.readouterr().err
        assert name in err
        assert err.count("\n") == 1, err
        (folder / name).write_bytes(before)
    assert set(Path("outputs").iterdir()) == there

    (folder / "result.json").write_text("{")
    with pytest.raises(SystemExit, match="2"):
        start(tmp_path, monkeypatch, "resume=outputs/x", "logger=none")
    assert capsys.readouterr().err == "error: run=outputs/x/result.json: is damaged: it holds no JSON object\n"


def test_differences_are_bit_for_bit_and_without_the_clock(tmp_path: Path) -> None:
    head = "step,samples,seed,key,value\n"
    (tmp_path / "a.csv").write_text(head + "1,2,0,loss,0.1\n1,2,0,seconds,5.0\n1,2,0,x,nan\n2,4,0,loss,1.0\n")
    (tmp_path / "b.csv").write_text(head + "1,2,0,loss,0.10000000000000002\n1,2,0,seconds,6.0\n1,2,0,x,nan\n")
    assert list(differences(tmp_path / "a.csv", tmp_path / "b.csv")) == [
        Difference(1, 0, "loss", 0.1, math.nextafter(0.1, 1)),
        Difference(2, 0, "loss", 1.0, None),
    ]


def test_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("b")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    (tmp_path / "below").mkdir()
    assert git_state(tmp_path / "below") is None
