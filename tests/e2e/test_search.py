"""A trained selector whose choices the critic improves: evaluate, predict and load with a search."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import selector as selector_module
from selector import load
from selector.__main__ import main as command
from selector.experiment import build_experiment
from selector.metrics import HeldOut
from selector.run import evaluate_run
from selector.search import Search
from selector.stored import load_run
from tests.e2e.test_readme import README, blocks
from tests.support import train_runs

RUNS = {
    "coupled": ["problem=sum_target", "network=pointer", "seeds=2"],
    "distinct": ["problem=distinct", "strategy=st_gumbel_sequential", "problem.S=3", "network=pointer"],
    "noisy": ["critic=black_box", "reward._target_=searched_rewards.luck", "strategy=rloo"],
}

REWARD = """import numpy as np


def luck(slots, *, generator: np.random.Generator):
    return slots.sum((1, 2)) + generator.normal(size=len(slots))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    (folder / "searched_rewards.py").write_text(REWARD)
    train_runs(folder, RUNS)
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize("name", ["coupled", "distinct"])
@pytest.mark.usefixtures("folder")
def test_evaluate_measures_what_a_selector_with_a_search_chooses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two ways to the same number: the command's, and choices judged one seed after the other."""
    run = Path("outputs") / name
    assert command(["evaluate", str(run), "--search", "2", "--width", "3"]) == 0
    shown = capsys.readouterr().out
    assert "searched" in shown
    assert re.search(
        r"searched: regret after 2 sweeps with 3 choices kept.* random choice ends with regret 0\.\d{4}\.", shown
    )
    cfg = load_run(run, "result.json")
    metrics = evaluate_run(cfg, run, "last", Console(quiet=True), search=Search(2, 3))
    for r in range(cfg.seeds):
        selector = load(run, seed=r, checkpoint="last")
        held_out = HeldOut.draw(build_experiment(cfg).problem, cfg.held_out)
        mask = held_out.batch.mask
        given = (held_out.batch.items, None if mask is None else mask[:, 0])
        plain, found = selector(*given), selector(*given, search=Search(2, 3))
        assert plain.loss is not None
        assert found.loss is not None
        assert (found.loss <= plain.loss + 1e-5).all()
        assert found.loss.mean() < plain.loss.mean(), "a network of 20 steps can be improved"
        assert torch.equal(found.margin, plain.margin)
        assert metrics["searched_loss"][r] == pytest.approx(float(found.loss.double().mean()), rel=1e-6)
        assert metrics["searched_regret"][r] < metrics["regret"][r]
        if name == "distinct":
            assert all(len(set(choice)) == 3 for choice in found.index.tolist())


def test_predict_searches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = np.random.default_rng(0).uniform(0, 10, (40, 8, 1)).astype(np.float32)
    np.save("lists.npy", items)
    for out, more in (("plain.npz", []), ("found.npz", ["--search", "1"])):
        assert command(["predict", "outputs/coupled", "lists.npy", "--out", out, *more]) == 0
    plain, found = np.load("plain.npz"), np.load("found.npz")
    assert found["loss"].mean() < plain["loss"].mean()
    expected = load("outputs/coupled")(items, search=Search(sweeps=1))
    assert np.array_equal(found["index"], expected.index.numpy())
    for path in ("lists.npy", "plain.npz", "found.npz"):
        (folder / path).unlink()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("coupled", ["--search", "0"], "--search=0: must be >= 1"),
        ("coupled", ["--search", "1", "--width", "0"], "--width=0: must be >= 1"),
        ("coupled", ["--width", "2"], "--width=2: goes with --search SWEEPS"),
        ("noisy", ["--search", "1"], "--search=1: must be left out: searched_rewards.luck is an estimate"),
    ],
)
@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_a_search_that_cannot_be_is_refused_in_one_line(
    what: str, name: str, options: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("few.npy", np.ones((2, 8, 1), np.float32))
    arguments = ["few.npy", "--out", "none.npz"] if what == "predict" else []
    capsys.readouterr()
    assert command([what, f"outputs/{name}", *arguments, *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {words}")
    assert not (folder / "none.npz").exists()
    (folder / "few.npy").unlink()


@pytest.mark.usefixtures("folder")
def test_the_commands_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [block for block in blocks("bash") if "--search" in block]
    (line,) = [line for line in block.splitlines() if "--search" in line]
    words = [word if not word.startswith("outputs/") else "outputs/coupled" for word in line.split()[3:]]
    assert command(words) == 0
    assert "searched: regret after 1 sweep with 4 choices kept" in capsys.readouterr().out
    selector, items = load("outputs/coupled"), torch.zeros(2, 8, 1)
    (call,) = re.findall(r"`(selector\(items, search=.*?\))`", README)
    assert eval(call, {"selector": selector, "items": items, "Search": selector_module.Search}).index.shape == (2, 4)
