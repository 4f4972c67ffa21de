"""Bad input: one line on stderr that names the key, exit code 2, and nothing written."""

import sys
from pathlib import Path

import pytest

from selector.__main__ import main as command
from selector.launch import main
from tests.support import CONFIGS


def never() -> None:
    """Stands for Hydra's application, which would make the run folder."""
    raise AssertionError("bad input reached the application")


def refuse(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    code = main(never, CONFIGS, argv)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; main() may rewrite sys.argv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


LEARNED = ["critic=learned", "reward=noisy_target"]
TABLE = [
    # command line, the key, further words that the line must hold
    (["stratgy=st_gumbel"], "stratgy", ["did you mean strategy"]),
    (["strategy=st_gumble"], "strategy", ["st_gumble", "must be one of", "st_gumbel"]),
    (["network=cnn"], "network", ["cnn", "mlp, pointer"]),
    (["strategy.foo=1"], "strategy.foo", []),
    (["+strategy.foo=1"], "strategy.foo", ["no option"]),
    (["+network.widht=3"], "network.widht", ["did you mean width"]),
    (["max_step=3"], "max_step", ["did you mean max_steps"]),
    (["max_steps=many"], "max_steps", ["many"]),
    (["max_steps=0"], "max_steps", ["0", ">= 1"]),
    (["seeds=0"], "seeds", ["0", ">= 1"]),
    (["seed=-1"], "seed", ["-1", ">= 0"]),
    (["seed=1.5"], "seed", ["1.5"]),
    (["batch_size=-4"], "batch_size", ["-4", ">= 1"]),
    (["held_out=0"], "held_out", ["0"]),
    (["val_every=0"], "val_every", ["0"]),
    (["patience=0"], "patience", ["0"]),
    (["stop_at_regret=-0.1"], "stop_at_regret", ["-0.1", "> 0"]),
    (["problem.N=0"], "problem.N", ["0", ">= 1"]),
    (["problem.S=-2"], "problem.S", ["-2", ">= 1"]),
    (["problem.D=0"], "problem.D", ["0", ">= 1"]),
    (["problem.N=eight"], "problem.N", ["eight"]),
    (["tau=constant", "tau.value=0"], "tau.value", ["0", "> 0"]),
    (["tau=constant", "tau.value=-1"], "tau.value", ["-1", "> 0"]),
    (["tau=constant", "tau.value=warm"], "tau.value", ["warm", "a number"]),
    (["tau=constant", "tau.value=.nan"], "tau.value", ["nan"]),
    (["tau.warmup=5000"], "tau.steps", ["4000", "5000"]),
    (["network.width=0"], "network.width", ["0", ">= 1"]),
    (["network.width=wide"], "network.width", ["wide", "a whole number"]),
    (["network.activation=step"], "network.activation", ["step", "relu"]),
    (["optimizer.lr=0"], "optimizer.lr", ["0", "> 0"]),
    (["optimizer.beta1=1"], "optimizer.beta1", ["1", "< 1"]),
    (["optimizer.schedule=triangle"], "optimizer.schedule", ["triangle", "cosine"]),
    (["items.high=-1"], "items.high", ["-1"]),
    (["problem=slot_targets", "critic.targets=[1,2]"], "critic.targets", ["[1, 2]", "4 numbers"]),
    (["problem=sum_target", "strategy=supervised", "problem.max_enumeration=10"], "strategy", ["Supervised", "exact"]),
    (["accelerator.accelerator=abacus"], "accelerator.accelerator", ["abacus", "cpu"]),
    (["accelerator.accelerator=tpu"], "accelerator.accelerator", ["tpu"]),
    (["accelerator.devices=0"], "accelerator.devices", ["0", ">= 1"]),
    (["accelerator=ddp", "batch_size=7"], "batch_size", ["7", "multiple"]),
    (["accelerator.precision=13"], "accelerator.precision", ["13", "bf16-mixed"]),
    (["accelerator.strategy=teleport"], "accelerator.strategy", ["teleport", "ddp"]),
    (["accelerator.compile=maybe"], "accelerator.compile", ["maybe"]),
    (["critic.target=nan"], "critic.target", ["nan", "must be finite"]),
    (["critic.target=inf"], "critic.target", ["inf", "must be finite"]),
    (["problem=sum_target", "critic.target=-inf"], "critic.target", ["-inf", "must be finite"]),
    (["problem=slot_targets", "critic.low=nan"], "critic.low", ["nan", "must be finite"]),
    (["problem=slot_targets", "critic.targets=[1,2,3,inf]"], "critic.targets", ["must be finite"]),
    (["experiment=polynomial", "critic.target=nan"], "critic.target", ["nan", "must be finite"]),
    (["experiment=polynomial", "critic.p=0"], "critic.p", ["0", "> 0"]),
    (["experiment=polynomial", "items.values=[[1.0],[inf]]"], "items.values", ["must be finite"]),
    (["items=normal", "items.mean=inf"], "items.mean", ["inf", "must be finite"]),
    (["experiment=polynomial", "problem.N=3"], "items.values", ["2 items of 1 features", "3 of 1"]),
    (
        ["problem=distinct", "strategy=st_gumbel_sequential", "probe.every=5"],
        "problem.without_replacement",
        ["no unbiased gradient"],
    ),
    (["strategy=rebar", "strategy.eta=nan"], "strategy.eta", ["nan", "must be finite"]),
    (["entropy.start=inf"], "entropy.start", ["inf", ">= 0"]),
    (["probe.every=0"], "probe.every", ["0", ">= 1"]),
    (["problem.eligible=0"], "problem.eligible", ["0", "(0, 1]"]),
    (["problem.eligible=nan"], "problem.eligible", ["nan", "(0, 1]"]),
    (["problem.eligible=0.5", "problem.eligible_per=item"], "problem.eligible_per", ["item", "list, slot"]),
    (["problem.without_replacement=true"], "strategy", ["STGumbel", "with replacement"]),
    (["problem=distinct"], "strategy", ["STGumbel", "with replacement"]),
    (["problem=distinct", "strategy=st_gumbel_sequential", "problem.N=3"], "problem.S", ["4", "<= N (3)"]),
    (
        ["problem=distinct", "strategy=st_gumbel_sequential", "problem.eligible=0.5", "problem.eligible_per=slot"],
        "problem.eligible_per",
        ["slot", "must be list"],
    ),
    (["problem=sum_target", "strategy=exact", "problem.S=9"], "strategy.max_selections", ["4096", "134,217,728"]),
    (["+trainer.callbacks=[]"], "trainer.callbacks", ["must be left out"]),
    (["+trainer.plugins=null"], "trainer.plugins", ["must be left out"]),
    (["+trainer.max_steps=5"], "trainer.max_steps", ["use max_steps"]),
    (["+trainer.no_such=5"], "trainer.no_such", ["no argument"]),
    (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches", ["0", ">= 1"]),
    (["trainer.accumulate_grad_batches=two"], "trainer.accumulate_grad_batches", ["two"]),
    (["logger.mode=of"], "logger.mode", ["of", "offline"]),
    (["logger.max_runs=0"], "logger.max_runs", ["0"]),
    (["resume=nowhere"], "resume", ["nowhere", "no such folder"]),
    (["resume=."], "resume", ["must be a run folder"]),
    (["strategy._target_=selector.networks.MLP"], "strategy._target_", ["selector.networks.MLP", "Strategy"]),
    (["strategy._target_=nowhere.Thing"], "strategy._target_", ["nowhere.Thing", "no such class"]),
    (["critic._target_=os.system"], "critic._target_", ["os.system", "trust=[os]"]),
    (["logger._target_=subprocess.Popen"], "logger._target_", ["subprocess.Popen", "trust=[subprocess]"]),
    (["critic._target_=torch.nn.Linear", "trust=[torch.nn]"], "trust", ["torch.nn", "without dots"]),
    (["critic._target_='import os'"], "critic._target_", ["must be a dotted name"]),
    (["critic=own"], "critic", ["critic._target_"]),
    (["critic=learned"], "reward", ["must be a black box"]),
    (["critic=black_box"], "reward", ["must be a black box"]),
    (["reward=noisy_target"], "reward", ["is for critic=learned"]),
    (["critic=learned", "reward=budget"], "problem.D", ["1", ">= 2"]),
    (["critic=learned", "reward._target_=os.system"], "reward._target_", ["trust=[os]"]),
    ([*LEARNED, "critic.members=0"], "critic.members", ["0", ">= 1"]),
    ([*LEARNED, "strategy=supervised"], "strategy", ["Supervised", "no critic"]),
    ([*LEARNED, "accelerator=ddp"], "accelerator.devices", ["2", "one process"]),
    ([*LEARNED, "probe.every=5"], "probe", ["NoisyTarget", "black box"]),
    (["critic=black_box", "reward=noisy_target"], "strategy", ["STGumbel", "gradient"]),
    (["critic=offline", "reward=noisy_target", "critic.table=nowhere.csv"], "critic.table", ["nowhere.csv"]),
    (["strategy=st_gumbel,st_argmax"], "strategy", []),
    (["-m", "strategy=st_gumbel,st_gumble"], "strategy", ["st_gumble"]),
    (["-m", "seeds=1,0"], "seeds", ["0", ">= 1"]),
    (["max_steps"], "max_steps", ["key=value"]),
    (["max_steps=[1"], "max_steps", ["key=value"]),
    (["+max_step=3"], "max_step", ["did you mean max_steps"]),
    (["+problem.K=3"], "problem.K", ["N, S, D"]),
    (["+accelerator.num_nodes=2"], "accelerator.num_nodes", ["no key"]),
]


@pytest.mark.parametrize(("argv", "key", "words"), TABLE, ids=[" ".join(row[0]) for row in TABLE])
def test_bad_input_is_one_line(
    argv: list[str], key: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refuse(argv, capsys)
    assert key in line.split(" ")[0] or line.startswith(key), line
    for word in words:
        assert word in line
    assert not list(folder.iterdir())


def test_a_gpu_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert refuse(["accelerator=gpu"], capsys).startswith("accelerator.accelerator=gpu: ")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert refuse(["accelerator=gpu", "accelerator.devices=2"], capsys).startswith("accelerator.devices=2: ")
    assert not list(folder.iterdir())


def test_the_full_error_is_shown_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="max_steps"):
        main(never, CONFIGS, ["max_steps=0"])
    assert not list(folder.iterdir())


def test_ctrl_c_is_exit_code_130(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert main(interrupted, CONFIGS, ["logger=none"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("run", ["nowhere", "."])
def test_evaluate_refuses_a_folder_without_a_run(run: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["evaluate", run]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: run={run}: ")
    assert err.count("\n") == 1
    assert not list(folder.iterdir())
