"""A trained selector in use: load, predict, export, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selector.trained as trained_module
from selector import load
from selector.__main__ import main as command
from selector.errors import InvalidInput
from selector.experiment import build_experiment
from selector.history import read_history
from selector.loading import read_checkpoint
from selector.metrics import HeldOut, evaluate
from selector.stored import load_run
from tests.e2e.test_readme import blocks
from tests.support import ROOT, SHORT, train_runs
from tests.unit.items.test_file import TABLE, lists, write

# Three kinds of runs: a table with context, lists of different length and three seeds; the plain one; and one without
# replacement.
RUNS = {
    "table": ["items=file", "items.path=hands.csv", "items.list_id=hand", "items.context=[budget]", "problem.N=4",
              "problem.D=2", "problem.C=1", "network=pointer", "seeds=3", "seed=5"],
    "plain": ["problem.N=4", "problem.S=2"],
    "distinct": ["problem=distinct", "strategy=st_gumbel_sequential", "problem.S=3", "network=pointer"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the runs in it."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "hands.csv")
    train_runs(folder, RUNS)
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; whatever a test adds is taken away."""
    monkeypatch.chdir(made)
    before = {path for path in made.rglob("*") if path.is_file()}
    yield made
    for path in made.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr of a command that is refused."""
    capsys.readouterr()
    assert command(list(argv)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


# ---- a fresh process ----------------------------------------------------------------------------------------------


def test_a_run_that_nobody_named_is_measured_in_a_fresh_process(tmp_path: Path) -> None:
    """Its stored name has a ${now:…} in it, which only a running Hydra can read: no test beside one would see that."""
    for arguments in ([str(ROOT / "train.py"), *SHORT, "logger=none"], ["-m", "selector", "evaluate"]):
        runs = [str(path.relative_to(tmp_path)) for path in tmp_path.glob("outputs/st_gumbel-*")]
        done = subprocess.run([sys.executable, *arguments, *runs], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert "last checkpoint" in done.stdout


# ---- load ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.usefixtures("folder")
def test_it_chooses_as_the_evaluation_of_its_checkpoint_does(name: str) -> None:
    cfg = load_run(Path("outputs") / name, needs="result.json")
    made = build_experiment(cfg)
    content = read_checkpoint(Path("outputs") / name / "checkpoints/last.ckpt")
    weights = {k.removeprefix("network."): v for k, v in content["state_dict"].items() if k.startswith("network.")}
    made.network.load_state_dict(weights)
    held_out = HeldOut.draw(made.problem, cfg.held_out)
    measured = evaluate(made.network, made.problem, held_out, 1.0)
    for r, seed in enumerate(made.network.seeds):
        selector = load(f"outputs/{name}", seed=seed, checkpoint="last")
        batch = held_out.batch
        picks = selector(batch.items, None if batch.mask is None else batch.mask[:, 0], batch.context)
        assert torch.equal(picks.index, measured.index[r])
        assert picks.loss is not None
        assert float(picks.loss.double().mean()) == pytest.approx(float(measured.metrics["hard_loss"][r]), rel=1e-6)
        rows = torch.arange(len(batch.items)).unsqueeze(-1)
        assert torch.equal(picks.slots, batch.items[rows, picks.index])
        best, second = picks.logits.topk(2).values.unbind(-1)
        assert torch.equal(picks.margin, best - second)


@pytest.mark.usefixtures("folder")
def test_the_seed_with_the_lowest_regret_at_the_checkpoint_is_the_default() -> None:
    record = read_history(Path("outputs/table/metrics.csv")).records[-1]
    best = 5 + int(np.argmin(record.values["val/regret"]))
    assert load("outputs/table", checkpoint="last").seed == best
    assert load("outputs/table", seed=6).seed == 6


@pytest.mark.usefixtures("folder")
def test_it_needs_neither_the_items_nor_their_leading_dims(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hands.csv").rename("elsewhere.csv")
    try:
        selector = load("outputs/table")
        items, mask, context = lists()
        whole = selector(items, mask, context)
        assert whole.index.shape == (6, 4)
        one = selector(items[2], mask[2], context[2])
        assert torch.equal(one.index, whole.index[2])
        assert one.loss is not None
        assert one.loss.shape == ()
        folded = selector(items.reshape(2, 3, 4, 2), mask.reshape(2, 3, 4), context.reshape(2, 3, 1))
        assert torch.equal(folded.index.flatten(0, 1), whole.index)
        monkeypatch.setattr(trained_module, "_CHUNK", 1)
        assert selector.lists_at_once(4) == 1
        assert torch.equal(selector(items, mask, context).index, whole.index)
        assert not bool((~torch.from_numpy(mask)).gather(1, whole.index).any())
        assert torch.isinf(whole.margin[1]).all(), "the second list has one item"
    finally:
        Path("elsewhere.csv").rename("hands.csv")


ITEMS = np.ones((5, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("run", "given", "key", "words"),
    [
        ("plain", {"items": np.ones((5, 4, 2))}, "items", r"must be \[\*, N, 1\]"),
        ("plain", {"items": np.ones((5, 3, 1))}, "items", r"must be \[\*, 4, 1\]; pad"),
        ("plain", {"items": np.ones((0, 4, 1))}, "items", "not empty"),
        ("plain", {"items": np.full((5, 4, 1), np.nan)}, "items", "must be finite"),
        ("plain", {"items": [["a"]]}, "items", "must be numbers"),
        ("plain", {"items": ITEMS, "mask": np.zeros((5, 4), bool)}, "mask", "at least 1"),
        ("plain", {"items": ITEMS, "mask": np.ones((5, 3), bool)}, "mask", r"must be bool \[5, 4\]"),
        ("plain", {"items": ITEMS, "mask": np.ones((5, 4))}, "mask", "must be bool"),
        ("plain", {"items": ITEMS, "context": np.ones((5, 1))}, "context", "must be None"),
        ("table", {"items": np.ones((5, 4, 2))}, "context", r"must be \[5, 1\]"),
        ("table", {"items": np.ones((5, 4, 2)), "context": np.ones((4, 1))}, "context", r"must be \[5, 1\]"),
        ("distinct", {"items": np.ones((5, 2, 1))}, "mask", "at least 3 items"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_does_not_fit_is_refused_by_name(run: str, given: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as error:
        load(f"outputs/{run}")(**given)
    assert error.value.key == key


# ---- predict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hands.csv", "x.npz", "x.parquet"])
def test_predict_writes_what_the_selector_chooses(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The columns of a table are known from training, also where its own are in another order."""
    if name == "x.parquet":
        body = [[row[3], 0.0, row[2], row[1], row[0]] for row in _rows()]
        write(folder / name, ["budget", "other", "weight", "price", "hand"], body)
    elif name == "x.npz":
        write(folder / name)
    expected = load("outputs/table")(*lists())
    monkeypatch.setattr(trained_module, "_CHUNK", 4000)  # chunks of a few lists
    assert command(["predict", "outputs/table", name, "--out", "new/picks.npz"]) == 0
    assert "6 lists, seed" in capsys.readouterr().out
    with np.load(folder / "new/picks.npz", allow_pickle=False) as picks:
        assert set(picks) == {"index", "slots", "margin", "loss"} | ({"list"} if name != "x.npz" else set())
        np.testing.assert_array_equal(picks["index"], expected.index)
        np.testing.assert_array_equal(picks["slots"], expected.slots)
        np.testing.assert_allclose(picks["margin"], expected.margin, rtol=1e-4)
        assert expected.loss is not None
        np.testing.assert_allclose(picks["loss"], expected.loss, rtol=1e-6)
        if name != "x.npz":
            assert picks["list"].tolist() == [f"h{i}" for i in range(6)]
    assert [path.name for path in (folder / "new").iterdir()] == ["picks.npz"]


def _rows() -> list[list[Any]]:
    from tests.unit.items.test_file import rows

    return rows()


def test_a_mapped_file_of_any_length_and_an_answer_that_is_the_same_twice(folder: Path) -> None:
    np.save(folder / "x.npy", np.random.default_rng(0).uniform(0, 10, (3000, 9, 1)))
    assert command(["predict", "outputs/distinct", "x.npy", "--out", "a.npz"]) == 0
    assert command(["predict", "outputs/distinct", "x.npy", "--out", "b.npz"]) == 0
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
    with np.load(folder / "a.npz") as picks:
        assert picks["index"].shape == (3000, 3)
        assert (np.diff(np.sort(picks["index"], 1)) > 0).all(), "no item twice"


def test_predict_refuses_in_one_line_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.ones((5000, 4, 1))
    np.save(folder / "x.npy", values)
    values[4999, 3] = np.nan
    np.save(folder / "nan.npy", values)
    np.save(folder / "long.npy", np.ones((4, 5, 1)))
    np.save(folder / "short.npy", np.ones((4, 2, 1)))
    np.save(folder / "wide.npy", np.ones((4, 4, 3)))
    (folder / "there.npz").write_bytes(b"old")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for arguments, words in (
        (["plain", "nan.npy", "--out", "p.npz"], "items=nan.npy: items[4999, 3, 0] is nan"),
        (["plain", "none.npy", "--out", "p.npz"], "items=none.npy: no such file"),
        (["plain", "long.npy", "--out", "p.npz"], "items=long.npy: its lists have up to 5 items"),
        (["plain", "wide.npy", "--out", "p.npz"], "items=wide.npy: has 3 features and 0 of the list"),
        (["distinct", "short.npy", "--out", "p.npz"], "items=short.npy: its shortest list has 2 items"),
        (["plain", "hands.csv", "--out", "p.npz"], "--list-id=None: must be the column of list ids"),
        (["plain", "x.npy", "--out", "p.npz", "--features", "a"], "--features=['a']: is for columns"),
        (["table", "hands.csv", "--out", "p.npz", "--features", "a"], "--features=a: no such column"),
        (["plain", "x.npy", "--out", "p.npy"], "--out=p.npy: must end in .npz"),
        (["plain", "x.npy", "--out", "there.npz"], "--out=there.npz: is there already"),
        (["plain", "x.npy", "--out", "there.npz/p.npz"], "--out=there.npz/p.npz: cannot be written"),
        (["plain", "x.npy", "--out", "p.npz", "--seed", "1"], "seed=1: must be one of 0"),
        (["nowhere", "x.npy", "--out", "p.npz"], "run=outputs/nowhere: no such folder"),
    ):
        line = refused(capsys, "predict", f"outputs/{arguments[0]}", *arguments[1:])
        assert line.startswith(words), line
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert command(["predict", "outputs/plain", "x.npy", "--out", "there.npz", "--force"]) == 0
    assert (folder / "there.npz").read_bytes() != b"old"


@pytest.mark.parametrize("name", ["predict", "export"])
def test_bad_input_does_not_wait_for_torch(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").touch()
    (tmp_path / "x.pt2").touch()
    rest = ["x.npy", "--out", f"{tmp_path}/x.npz"] if name == "predict" else ["--format", "torch"]
    asked = [name, "run", *rest] + ["--out", f"{tmp_path}/x.pt2"] * (name == "export")
    code = f"import sys; from selector.__main__ import main; print(main({asked}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "2 False\n"


# ---- damaged runs -------------------------------------------------------------------------------------------------


def test_a_damaged_run_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "outputs/plain"
    checkpoint, config = run / "checkpoints/best.ckpt", run / ".hydra/config.yaml"
    np.save(folder / "x.npy", ITEMS)
    content = torch.load(checkpoint, weights_only=True)
    state = content["state_dict"]
    name = next(name for name in state if name.startswith("network."))
    kept = {path: path.read_bytes() for path in (checkpoint, config)}
    asked = ["predict", "outputs/plain", "x.npy", "--out", "p.npz"]
    try:
        for broken, words in (
            (kept[checkpoint][:-100], "is damaged: File is not a zip file"),
            (b"", "is damaged: File is not a zip file"),
            (kept[checkpoint].replace(b"global_step", b"global_stop"), "has a wrong checksum"),
            ({**content, "state_dict": {**state, name: state[name][:, :1]}}, "does not fit the run's configuration"),
            ({**content, "state_dict": {}}, "does not fit the run's configuration"),
            ({**content, "state_dict": {name: "text"}}, "is no dense tensor"),
            ({**content, "global_step": None}, "global_step is missing"),
            ({**content, "selector": {"seeds": []}}, "its seeds are missing"),
            ({**content, "more": Path}, "is damaged: "),
            ([1], "holds no dictionary"),
        ):
            if isinstance(broken, bytes):
                checkpoint.unlink()
                checkpoint.write_bytes(broken)
            else:
                torch.save(broken, checkpoint)
            line = refused(capsys, *asked)
            assert line.startswith("checkpoint=outputs/plain/checkpoints/best.ckpt: "), line
            assert words in line
            assert refused(capsys, "evaluate", "outputs/plain", "--checkpoint", "best").startswith("checkpoint=")
        torch.save({**content, "state_dict": {**state, name: state[name] * torch.nan}}, checkpoint)
        assert refused(capsys, *asked).startswith("seed=0: its network is not finite")
        checkpoint.write_bytes(kept[checkpoint])
        for yaml in (b"\xff", b"a: [", b"[1]", b"", b"problem: 3", kept[config].replace(b"S: 2", b"S: x")):
            config.write_bytes(yaml)
            refused(capsys, *asked)
    finally:
        for path, before in kept.items():
            path.unlink()
            path.write_bytes(before)
    assert not (folder / "p.npz").exists()


# ---- export -------------------------------------------------------------------------------------------------------

ALONE = """
import sys
sys.modules["selector"] = None  # importing it would fail
import numpy as np
given = dict(np.load(sys.argv[2]))
if sys.argv[1].endswith(".onnx"):
    sys.modules["torch"] = None
    import onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1])
    names = [one.name for one in session.get_inputs()]
    logits, *index = session.run(None, {name: given[name] for name in names})
else:
    import torch
    run = torch.export.load(sys.argv[1]).module()
    names = [name for name in ("items", "mask", "context") if name in given]
    logits, *index = [one.detach().numpy() for one in run(*(torch.from_numpy(given[name]) for name in names))]
np.savez(sys.argv[3], logits=logits, **({"index": index[0]} if index else {}))
"""


@pytest.mark.parametrize(
    ("name", "form"), [("table", "onnx"), ("table", "torch"), ("plain", "onnx"), ("distinct", "onnx")]
)
def test_the_file_runs_without_this_package(
    name: str, form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["export", f"outputs/{name}", "--format", form]) == 0
    out = capsys.readouterr().out
    file = folder / "outputs" / name / ("selector.onnx" if form == "onnx" else "selector.pt2")
    assert f"exported  outputs/{name}/{file.name}" in out
    assert ("the best assignment is left to you" in out) == (name == "distinct")
    selector = load(f"outputs/{name}")
    rng = np.random.default_rng(3)
    B, N = 11, selector.N or 23
    given = {"items": rng.normal(100, 7, (B, N, selector.D)).astype(np.float32), "mask": rng.random((B, N)) < 0.7}
    given["mask"][:, : selector.S] = True
    if selector.C:
        given["context"] = rng.normal(size=(B, selector.C)).astype(np.float32)
    np.savez(folder / "given.npz", **given)
    # -I: neither the working directory nor PYTHONPATH is looked at.
    alone = [sys.executable, "-I", "-c", ALONE, str(file), "given.npz", "got.npz"]
    done = subprocess.run(alone, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = selector(**given)
    with np.load(folder / "got.npz") as got:
        assert got["logits"].shape == (B, selector.S, N)
        np.testing.assert_allclose(got["logits"], expected.logits, rtol=1e-5, atol=1e-5)
        assert ("index" in got) == (name != "distinct")
        if "index" in got:
            np.testing.assert_array_equal(got["index"], expected.index)
    assert str(folder).encode() not in file.read_bytes()
    assert refused(capsys, "export", f"outputs/{name}", "--format", form).startswith("--out=")


def test_a_file_that_computes_something_else_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import selector.export as export_module

    real = export_module._write_torch
    monkeypatch.setattr(
        export_module, "_write_torch", lambda *a: lambda *given: (real(*a)(*given)[0] + 1e-3, *real(*a)(*given)[1:])
    )
    line = refused(capsys, "export", "outputs/plain", "--format", "torch", "--out", "x.pt2")
    assert line.startswith("run=MLP: the exported file differs")
    assert not list(folder.glob("*.pt2"))
    assert not list(folder.glob(".*tmp"))


def test_the_commands_of_the_readme_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shell,) = [block for block in blocks("bash") if "selector predict" in block]
    (python,) = [block for block in blocks("python") if "from selector import load" in block]
    np.save(folder / "cards.npy", np.random.default_rng(0).uniform(0, 10, (6, 4, 1)))
    lines = [line.split("  #")[0].split() for line in shell.splitlines() if "python -m selector" in line]
    assert [words[3] for words in lines] == ["predict", "export", "export"]
    for words in lines:
        assert command([word.replace("outputs/cards", "outputs/plain") for word in words[3:]]) == 0
    capsys.readouterr()
    exec(python.replace("outputs/cards", "outputs/plain"), {})
    assert capsys.readouterr().out.startswith("tensor(")
    (run,) = [block for block in blocks("python") if "import onnxruntime" in block]
    exec(run.replace("outputs/cards", "outputs/plain"), {})
    assert "shape" not in capsys.readouterr().err


def test_options_of_a_table_are_those_of_training(folder: Path) -> None:
    content = read_checkpoint(folder / "outputs/table/checkpoints/best.ckpt")
    assert content["selector"]["columns"] == {"features": ["price", "weight"], **TABLE}
