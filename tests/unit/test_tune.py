"""The search: its file, its space, what a trial is worth, and studies that are interrupted, killed and shared."""

import csv
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from selector.__main__ import main
from selector.composing import compose_job
from selector.errors import InvalidInput
from selector.history import History, Record
from selector.run import run
from selector.training import Result
from selector.tuning.question import Objective, Question, read_question
from selector.tuning.space import Space, override, read_space
from tests.support import CONFIGS, ROOT

optuna = pytest.importorskip("optuna")
study = pytest.importorskip("selector.tuning.study")
trial_module = pytest.importorskip("selector.tuning.trial")

TINY = ["max_steps=4", "val_every=2", "held_out=16", "batch_size=8", "network.width=4"]
FILE = f"""
overrides: [{", ".join(TINY)}]
seeds: 2
n_trials: 3
space:
  optimizer.lr: {{type: float, low: 1e-4, high: 1e-2, log: true}}
  tau:
    choices:
      constant:
        tau.value: {{type: float, low: 0.5, high: 2}}
      exponential:
        tau.start: {{type: float, low: 1, high: 4}}
        tau.end: {{type: float, low: 0.1, high: 0.5}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "question.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        yield


class Draws:
    """Draws what it is told to, and remembers the parameters' names."""

    def __init__(self, **given: Any) -> None:
        self.given, self.names = given, list[str]()

    def _draw(self, name: str, otherwise: Any) -> Any:
        self.names.append(name)
        return self.given.get(name, otherwise)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:  # noqa: ARG002
        return float(self._draw(name, low))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:  # noqa: ARG002
        return int(self._draw(name, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._draw(name, choices[0])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as f:
        return list(csv.DictReader(f))


# ---- the space -------------------------------------------------------------------------------------------------------


def test_a_key_is_searched_only_where_its_choice_is_taken(file: Path) -> None:
    space = read_question(file).space
    for tau, expected in (("constant", ["tau.value"]), ("exponential", ["tau.start", "tau.end"])):
        draws = Draws(tau=tau)
        overrides = space.suggest(draws)
        assert draws.names == ["optimizer.lr", "tau", *(f"tau={tau}/{name}" for name in expected)]
        assert [o.split("=")[0] for o in overrides] == ["optimizer.lr", "tau", *expected]


def test_choices_nest() -> None:
    inner = {"choices": {"linear": {"tau.end": {"type": "float", "low": 0.1, "high": 1}}}}
    space = read_space({"strategy": {"choices": {"softmax": None, "gst": {"tau": inner}}}}, "space")
    draws = Draws(strategy="gst")
    assert space.suggest(draws) == ["strategy=gst", "tau=linear", "tau.end=0.1"]
    assert draws.names[-1] == "strategy=gst/tau=linear/tau.end"
    assert space.suggest(Draws()) == ["strategy=softmax"]


def test_the_corners_hold_every_choice_and_both_ends(file: Path) -> None:
    corners = read_question(file).space.corners()
    found = {one for corner in corners for one in corner}
    assert found >= {"optimizer.lr=0.0001", "optimizer.lr=0.01", "tau=constant", "tau=exponential"}
    assert found >= {"tau.value=0.5", "tau.value=2", "tau.start=1", "tau.start=4", "tau.end=0.1", "tau.end=0.5"}
    assert Space().corners() == [[]]


def test_a_float_has_four_digits_and_stays_in_its_range() -> None:
    space = read_space({"a": {"type": "float", "low": 0.12344, "high": 0.5}}, "space")
    assert space.suggest(Draws(a=0.234567)) == ["a=0.2346"]
    assert space.suggest(Draws(a=0.123441)) == ["a=0.12344"]


@pytest.mark.parametrize("value", [None, True, 3, 2.5, 1e-5, "gst", "two words", "it's", "a,b", "null", "${x}", "1"])
def test_hydra_reads_the_value_that_was_meant(value: Any) -> None:
    read = OverridesParser.create().parse_override(override("key", value))
    assert not read.is_sweep_override()
    meant = read.value()
    assert (meant.text if hasattr(meant, "text") else meant) == value


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("n_trials: 3", "n_trials: 0", "n_trials"),
        ("n_trials: 3", "n_trials: many", "n_trials"),
        ("n_trials: 3", "n_trial: 3", "n_trial"),
        ("n_trials: 3", "", "n_trials"),
        ("seeds: 2", "seeds: 2\nseeds: 3", "file"),
        ("seeds: 2", "seeds: [", "file"),
        ("seeds: 2", "seeds: 2\ntimeout: -1", "timeout"),
        ("seeds: 2", "seeds: 2\nobjective: {metric: loss}", "objective.metric"),
        ("seeds: 2", "seeds: 2\nobjective: {metric: steps}", "objective.regret"),
        ("seeds: 2", "seeds: 2\nobjective: {metric: steps, regret: .1}", "objective.penalty"),
        ("seeds: 2", "seeds: 2\nobjective: regret", "objective"),
        ("seeds: 2", "seeds: 2\npruner: {name: luck}", "pruner.name"),
        ("seeds: 2", "seeds: 2\npruner: {name: asha}", "pruner.warmup"),
        ("overrides: [", "overrides: [seeds=3, ", "overrides"),
        ("overrides: [", "overrides: [name=mine, ", "overrides"),
        ("overrides: [", "overrides: [hydra/launcher=basic, ", "overrides"),
        ("overrides: [", 'overrides: ["strategy=gst,softmax", ', "overrides"),
        ("overrides: [", "overrides: [strategy, ", "overrides"),
        ("overrides: [", "overrides: [7, ", "overrides"),
        ("low: 0.5, high: 2", "low: 3, high: 2", "space.tau.choices.constant.tau.value.high"),
        ("low: 0.5, high: 2", "low: .nan, high: 2", "space.tau.choices.constant.tau.value.high"),
        ("low: 0.5, high: 2", "low: 0.5", "space.tau.choices.constant.tau.value.high"),
        ("low: 1e-4", "low: 0", "space.optimizer.lr.low"),
        ("log: true", "log: true, step: .1", "space.optimizer.lr.step"),
        ("log: true", "logarithm: true", "space.optimizer.lr.logarithm"),
        ("{type: float, low: 1e-4, high: 1e-2, log: true}", "1e-3", "space.optimizer.lr"),
        ("{type: float, low: 1e-4, high: 1e-2, log: true}", "{choices: []}", "space.optimizer.lr.choices"),
        ("{type: float, low: 1e-4, high: 1e-2, log: true}", "{choices: [1, [2]]}", "space.optimizer.lr.choices"),
        ("{type: float, low: 1e-4, high: 1e-2, log: true}", "{choices: [1, 1]}", "space.optimizer.lr.choices"),
        ("{type: float, low: 1e-4, high: 1e-2, log: true}", "{choices: [1], step: 1}", "space.optimizer.lr.step"),
        ("optimizer.lr: {type: float", "optimizer.lr: {type: int", "space.optimizer.lr.low"),
        ("optimizer.lr: {type: float", "optimizer.lr: {type: bool", "space.optimizer.lr.type"),
        ("optimizer.lr: {", "seed: {", "space.seed"),
        ("optimizer.lr: {", '"a b": {', "space.a b"),
        ("optimizer.lr: {", "tau.value: {", "space.tau.choices.constant.tau.value"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(file: Path, old: str, new: str, key: str) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(InvalidInput) as refused:
        read_question(file)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("optimizer.lr", "optimizer.rl", "optimizer.rl: no such key"),
        ("constant", "konstant", "tau=konstant: must be one of"),
        ("low: 0.5", "low: -0.5", "tau.value=-0.5: must be"),
        ("overrides: [", "overrides: [strategy=none, ", "strategy=none: must be one of"),
        ("overrides: [", "overrides: [accelerator=ddp, ", "accelerator.devices=2: must be 1"),
        ("seeds: 2", "objective: {metric: steps, regret: .1, penalty: 0}\npatience: 2\nseeds: 2", "patience=2: "),
        ("n_trials: 3", "", "n_trials=None: "),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    file: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace(old, new, 1))
    assert main(["tune", str(file), "--out", str(file.parent / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1
    assert sorted(file.parent.iterdir()) == [file]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert main(["tune", str(tmp_path / "none.yaml")]) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps" / "tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_search_of_the_repository_builds_and_says_what_it_costs(path: Path, hydra: None) -> None:  # noqa: ARG001
    study.check(read_question(path))
    question, command, cost = path.read_text().splitlines()[:3]
    assert question.startswith("# ")
    assert question.endswith("?")
    assert command == f"# python -m selector tune sweeps/tune/{path.name}"
    assert re.search(r"\d+ minutes", cost)


# ---- what a trial is worth -------------------------------------------------------------------------------------------


def result(*regrets: list[float], step: int = 100) -> Result:
    records = [Record(i * step, i, {"val/regret": values}) for i, values in enumerate(regrets)]
    seeds = tuple(range(len(regrets[0])))
    return Result("separable", seeds, 1, 1, {"regret": regrets[-1]}, History(seeds, None, records), 0.0)


def test_regret_of_a_failed_seed_is_the_worst() -> None:
    assert trial_module.measure(Objective(), result([1.0, 1.0], [0.5, math.nan]), 100) == [0.5, math.inf]


def test_steps_count_the_first_time_and_censored_seeds_the_budget_and_the_penalty() -> None:
    objective = Objective("steps", regret=0.1, penalty=50)
    #          never, at once, at 200, at 100 and lost again, failed
    regrets = [1.0, 0.1, 1.0, 1.0, math.nan], [0.9, 0.1, 0.2, 0.05, math.nan], [0.9, 0.1, 0.1, 0.5, math.nan]
    assert trial_module.measure(objective, result(*regrets), max_steps=200) == [250, 100, 200, 100, 250]


def test_a_trial_is_the_interquartile_mean_of_what_train_py_reaches(hydra: None, tmp_path: Path) -> None:  # noqa: ARG001
    overrides = [*TINY, "seeds=4", "logger=none"]
    outcome = trial_module.run_trial(overrides, Objective())
    trained = run(compose_job(overrides), tmp_path, Console(quiet=True))
    assert outcome.regrets == trained.metrics["regret"]
    assert outcome.value == pytest.approx(sum(sorted(outcome.regrets)[1:-1]) / 2)
    assert (outcome.steps, outcome.pruned) == (4, False)


def test_a_hopeless_trial_is_given_up_at_a_validation_but_not_at_the_last(hydra: None) -> None:  # noqa: ARG001
    asked = []

    def hopeless(step: int, regret: float) -> bool:
        asked.append((step, regret))
        return len(asked) == 2

    outcome = trial_module.run_trial([*TINY, "max_steps=8"], Objective(), hopeless)
    assert ([step for step, _ in asked], outcome.pruned, outcome.steps) == ([2, 4], True, 4)
    outcome = trial_module.run_trial([*TINY, "max_steps=2"], Objective(), hopeless)
    assert (len(asked), outcome.pruned) == (2, False)


def test_a_trial_ends_when_all_seeds_are_there(hydra: None) -> None:  # noqa: ARG001
    overrides = [*TINY, "max_steps=100", "seeds=2"]
    outcome = trial_module.run_trial(overrides, Objective("steps", regret=100.0, penalty=7))
    assert (outcome.value, outcome.steps) == (2, 2)
    outcome = trial_module.run_trial([*TINY, "seeds=2"], Objective("steps", regret=1e-9, penalty=7))
    assert (outcome.value, outcome.steps) == (4 + 7, 4)


# ---- studies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of the trials that were trained, instead of training them: lr is the regret."""
    done: list[list[str]] = []

    def run_trial(overrides: list[str], objective: Objective, hopeless: Callable[[int, float], bool]) -> Any:  # noqa: ARG001
        done.append(overrides)
        lr = next(float(o.split("=")[1]) for o in overrides if o.startswith("optimizer.lr="))
        return trial_module.Outcome(lr, False, 4, 0.1, [lr, lr], [lr, lr])

    monkeypatch.setattr(study, "run_trial", run_trial)
    return done


def test_a_study_ends_with_a_command_that_reaches_what_it_says(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["tune", str(file), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = rows(out)
    assert [row["state"] for row in table] == ["COMPLETE"] * 3
    best = min(table, key=lambda row: float(row["value"]))
    command = next(line for line in lines if line.startswith("python train.py "))
    assert shlex.split(command)[2:] == shlex.split(best["overrides"])
    assert sum(line.startswith("trial ") for line in lines) == 3
    assert "add seed=2" in "\n".join(lines)
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        again = trial_module.run_trial(shlex.split(command)[2:], Objective())
    assert again.value == float(best["value"])


def test_going_on_repeats_nothing_and_ends_like_a_study_that_was_not_interrupted(
    file: Path, tmp_path: Path, trained: list[list[str]]
) -> None:
    for trials in ("2", "5", "5"):
        assert main(["tune", str(file), "--trials", trials, "--out", str(tmp_path / "parts")]) == 0
    parts = list(trained)
    trained.clear()
    assert main(["tune", str(file), "--trials", "5", "--out", str(tmp_path / "whole")]) == 0
    assert parts == trained
    assert len(parts) == len({tuple(overrides) for overrides in parts}) == 5


def test_a_study_may_not_change_its_question(file: Path, tmp_path: Path, trained: list[list[str]]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["tune", str(file), *out]) == 0
    for old, new in (("seeds: 2", "seeds: 3"), ("high: 2", "high: 3"), ("n_trials", "sampler_seed: 1\nn_trials")):
        file.write_text(FILE.replace(old, new, 1))
        assert main(["tune", str(file), *out]) == (0 if "sampler" in new else 2)
    assert len(trained) == 3


def test_what_is_no_study_is_refused(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.db").write_text("no database at all, but long enough to look like one" * 20)
    assert main(["tune", str(file), "--out", str(tmp_path / "out")]) == 2
    assert main(["tune", str(file), "--out", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_failure_is_reported_and_the_others_go_on(
    file: Path, tmp_path: Path, trained: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    works = study.run_trial

    def fails_first(overrides: list[str], *rest: Any) -> Any:
        if not trained:
            trained.append(overrides)
            raise RuntimeError("out of\nmemory")
        return works(overrides, *rest)

    monkeypatch.setattr(study, "run_trial", fails_first)
    assert main(["tune", str(file), "--out", str(tmp_path / "out")]) == 0
    table = rows(tmp_path / "out")
    assert [row["state"] for row in table] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert table[0]["error"] == "RuntimeError: out of memory"


def test_a_study_in_which_all_fail(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(study, "run_trial", fails)
    assert main(["tune", str(file), "--out", str(tmp_path / "out")]) == 3


def test_the_same_point_is_not_trained_twice(file: Path, tmp_path: Path, trained: list[list[str]]) -> None:
    file.write_text(FILE[: FILE.index("space:")] + "space:\n  optimizer.lr: {choices: [0.1, 0.2]}\n")
    assert main(["tune", str(file), "--trials", "6", "--out", str(tmp_path / "out")]) == 0
    assert sorted(overrides[-1] for overrides in trained) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    assert len(rows(tmp_path / "out")) == 6


def test_an_interrupted_trial_is_tried_again(
    file: Path, tmp_path: Path, trained: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    works = study.run_trial

    def interrupted(overrides: list[str], *_: Any) -> Any:
        trained.append(overrides)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(study, "run_trial", interrupted)
    for _ in range(3):  # a user may do so as often as they like: it is no failure
        assert main(["tune", str(file), "--out", str(out)]) == 130
    monkeypatch.setattr(study, "run_trial", works)
    assert main(["tune", str(file), "--out", str(out)]) == 0
    assert [row["state"] for row in rows(out)] == ["FAIL"] * 3 + ["COMPLETE"] * 3
    assert trained[0] == trained[1] == trained[2] == trained[3]


def test_a_timeout_begins_no_further_trial(file: Path, tmp_path: Path, trained: list[list[str]]) -> None:
    file.write_text(FILE + "timeout: 1e-9\n")
    assert main(["tune", str(file), "--out", str(tmp_path / "out")]) == 3
    assert not trained


WORKER = """
import sys, time
import selector.tuning.study as study
study.run_trial = lambda *_: time.sleep(300)
from selector.__main__ import main
main(["tune", sys.argv[1], "--out", sys.argv[2]])
"""


def test_the_trial_of_a_killed_worker_is_tried_again_by_another_and_only_once(
    file: Path, tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers on one study; the first is killed in its trial while the second waits for it."""
    out = tmp_path / "out"
    with Worker(file, out) as first, KilledLater(first, out):
        assert main(["tune", str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "waiting for trial 0 of other workers" in said
    assert "trial 0: its process was killed; it is tried again" in said
    table = rows(out)
    assert [row["state"] for row in table] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert [row["retry_of"] for row in table] == ["", "", "", "0"]
    assert table[0]["overrides"] == table[3]["overrides"]
    assert len(trained) == 3
    assert main(["tune", str(file), "--out", str(out)]) == 0  # nothing is left to do
    assert len(trained) == 3


def test_a_trial_that_kills_its_process_twice_is_left(file: Path, tmp_path: Path, trained: list[list[str]]) -> None:
    question, out = read_question(file), tmp_path / "out"
    for _ in range(2):
        die_in_a_trial(question, out)
    assert main(["tune", str(file), "--out", str(out)]) == 0
    assert [row["state"] for row in rows(out)] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(trained) == 2


def die_in_a_trial(question: Question, out: Path) -> None:
    """Leave behind what a killed process does: a running trial whose lock nobody holds."""
    search = study.Search(question, out, Console(quiet=True))
    with search._claims.turn():
        search._free_the_dead()
        trial = search._ask(search._study.get_trials())
    search._claims._held[trial.number].close()


class Worker:
    """A process that sits in its first trial."""

    def __init__(self, file: Path, out: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(file), str(out)], env=environment, stdout=subprocess.DEVNULL
        )
        self._claim = out / "running" / "0.lock"

    def __enter__(self) -> "Worker":
        deadline = time.monotonic() + 120
        while not self._claim.exists():
            assert self._process.poll() is None, "the worker ended"
            assert time.monotonic() < deadline, "the worker did not take a trial"
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()


class KilledLater:
    """Kills a worker as soon as two further trials are done."""

    def __init__(self, first: Worker, out: Path) -> None:
        self._thread = threading.Thread(target=self._kill, args=(first, out))

    @staticmethod
    def _kill(first: Worker, out: Path) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (out / "trials.csv").exists() and sum(row["state"] == "COMPLETE" for row in rows(out)) == 2:
                time.sleep(0.5)
                break
            time.sleep(0.05)
        first.kill()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
