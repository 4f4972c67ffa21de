"""A search from beginning to end: Optuna asks, trials answer, sqlite remembers.

The study is a file; running the command again goes on with it, and two workers may share it. A trial is counted once:
the retry of one whose process was killed takes its place.
"""

import csv
import json
import math
import shlex
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from selector.composing import CONFIGS, compose_job
from selector.errors import InvalidInput
from selector.explain import explain
from selector.files import write_atomically
from selector.tuning.claims import Claims
from selector.tuning.question import Pruning, Question
from selector.tuning.trial import Outcome, build, run_trial

STUDY, TABLE = "study.db", "trials.csv"

# How often a trial is tried again when its process was killed: one that kills its process would do so for ever.
_RETRIES = 1
_KILLED = f"its process was killed {_RETRIES + 1} times"
_POLL_SECONDS = 1.0


def tune(question: Question, folder: Path, console: Console) -> int:
    """Search until the study has as many trials as ``question`` asks for, then print the best.

    Args:
        question: what is searched.
        folder: the study's; made if missing, gone on with if not.
        console: where the lines go.

    Returns:
        The exit code: 0 done, 3 when no trial reached anything.

    Raises:
        InvalidInput: naming the key that is wrong; nothing has been written then.
        KeyboardInterrupt: the running trial will be tried again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        check(question)
        search = Search(question, folder, console)
        search.run()
    return search.report()


def check(question: Question) -> None:
    """Compose and build, without training, a few points in which everything occurs that the space holds.

    Raises:
        InvalidInput: naming the key that is wrong.
    """
    for corner in question.space.corners():
        try:
            build(compose_job([*question.fixed, *corner]), question.objective)
        except InvalidInput as error:
            raise InvalidInput(error.key, error.given, f"{error.allowed} (a trial with {' '.join(corner)})") from None


class Search:
    """One worker on a study.

    Args:
        question: what is searched.
        folder: the study's.
        console: where the lines go.

    Raises:
        InvalidInput: when the folder cannot hold the study, or holds another one.
    """

    def __init__(self, question: Question, folder: Path, console: Console) -> None:
        self.question, self.folder, self.console = question, folder, console
        try:
            self._claims = Claims(folder)
        except OSError as error:
            raise InvalidInput("--out", folder, f"cannot hold a study ({error.strerror})") from None
        with self._claims.turn():  # two workers that make the tables at once would be in each other's way
            self._study = _open(question, folder)
        self._seconds: list[float] = []

    def run(self) -> None:
        """Take trials until enough are done; wait for those of other workers, whose trials may need a retry."""
        began = time.perf_counter()
        said_waiting = False
        self._headline()
        while True:
            late = self.question.timeout is not None and time.perf_counter() - began >= self.question.timeout
            with self._claims.turn():
                self._free_the_dead()
                trials = self._study.get_trials(deepcopy=False)
                wanted = _count(trials) < self.question.n_trials
                trial = self._ask(trials) if wanted and not late else None
                others = [t.number for t in trials if t.state is TrialState.RUNNING]
            if trial is not None:
                self._do(trial)
            elif late and (wanted or others):
                self._say(f"timeout: no further trial begins after {self.question.timeout:g} s")
                return
            elif others:
                if not said_waiting:
                    self._say(f"waiting for {_listed(others)} of other workers")
                said_waiting = True
                time.sleep(_POLL_SECONDS)
            else:
                return

    def report(self) -> int:
        """Print the best trial as a command, and where the study is.

        Returns:
            The exit code: 0, or 3 when no trial reached anything.
        """
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state is TrialState.FAIL and trial.number not in _retried(trials):
                self._say(f"failed: trial {trial.number}: {trial.user_attrs.get('error', _KILLED)}")
        best = _best(trials)
        if best is not None:
            seeds = self.question.seeds
            self._say(f"best: trial {best.number} of {_count(trials)}, {self._value(best)}, IQM over {seeds} seeds")
            self._say(shlex.join(["python", "train.py", *best.user_attrs["overrides"]]))
            self._say(f"  The best of many was lucky too: on fresh seeds, add seed={_fresh_seed(best, seeds)}.")
        else:
            self._say("no trial reached anything")
        self._say(f"table   {self.folder / TABLE}")
        self._say(f"study   optuna-dashboard sqlite:///{self.folder / STUDY}")
        return 0 if best is not None else 3

    # ---- one trial ----------------------------------------------------------------------------------------------

    def _ask(self, trials: Sequence[FrozenTrial]) -> optuna.Trial:
        # Seeded by how many there are: a study that was interrupted draws what it would have drawn, and never again
        # what it has drawn before.
        entropy = np.random.SeedSequence([self.question.sampler_seed, _count(trials)])
        with _experimental():
            # group: a model of their own for the keys of each choice.
            self._study.sampler = optuna.samplers.TPESampler(
                multivariate=True, group=True, seed=int(entropy.generate_state(1)[0])
            )
        trial = self._study.ask()
        self._claims.take(trial.number)
        trial.set_user_attr("overrides", [*self.question.fixed, *self.question.space.suggest(trial)])
        return trial

    def _do(self, trial: optuna.Trial) -> None:
        overrides: list[str] = trial.user_attrs["overrides"]
        began = time.perf_counter()
        state, value, note = TrialState.FAIL, None, ""
        try:
            twin = self._twin(overrides)
            if twin is not None:
                state, value = TrialState.COMPLETE, twin.value
                note = f"the same as trial {twin.number}, not trained again"
                for name in ("regrets", "per_seed", "steps", "seconds"):
                    trial.set_user_attr(name, twin.user_attrs[name])
            else:
                outcome = self._train(trial, overrides)
                state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
                value = outcome.value
                note = f"given up at step {outcome.steps}" if outcome.pruned else f"{outcome.steps} steps"
        except KeyboardInterrupt:
            with self._claims.turn():
                self._retry(_frozen(trial), kills=trial.user_attrs.get("kills", 0))
                self._study.tell(trial, state=TrialState.FAIL)
                self._claims.drop(trial.number)
            raise
        except Exception as error:  # one trial's failure must not end the study
            known = isinstance(error, InvalidInput | HydraException | OmegaConfBaseException)
            because = explain(error, CONFIGS) if known else f"{type(error).__name__}: {' '.join(str(error).split())}"
            trial.set_user_attr("error", because)
            note = f"failed: {because}"
        with self._claims.turn():
            if state is TrialState.COMPLETE:
                self._study.tell(trial, value)
            else:
                self._study.tell(trial, state=state)
            self._claims.drop(trial.number)
            trials = self._study.get_trials(deepcopy=False)
            _write_table(self.folder / TABLE, trials)
        self._seconds.append(time.perf_counter() - began)
        self._line(trials[trial.number], note, trials)

    def _train(self, trial: optuna.Trial, overrides: Sequence[str]) -> Outcome:
        def hopeless(step: int, regret: float) -> bool:
            trial.report(regret, step)
            return trial.should_prune()

        outcome = run_trial(overrides, self.question.objective, hopeless)
        for name in ("regrets", "per_seed", "steps", "seconds"):
            trial.set_user_attr(name, getattr(outcome, name))
        return outcome

    def _twin(self, overrides: Sequence[str]) -> FrozenTrial | None:
        """A finished trial with the same overrides: it would be the same again."""
        done = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return next((t for t in done if t.user_attrs["overrides"] == list(overrides)), None)

    # ---- trials whose process is gone -----------------------------------------------------------------------------

    def _free_the_dead(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if self._claims.alive(trial.number):
                continue
            kills = trial.user_attrs.get("kills", 0) + 1
            if kills <= _RETRIES:
                self._retry(trial, kills)
                self._say(f"trial {trial.number}: its process was killed; it is tried again")
            else:
                self._say(f"trial {trial.number}: {_KILLED}; it is left")
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _retry(self, trial: FrozenTrial, kills: int) -> None:
        # Queued before the old one is closed: killed in between, the next worker finds it queued already.
        if trial.number not in _retried(self._study.get_trials(deepcopy=False)):
            self._study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "kills": kills})

    # ---- what is printed --------------------------------------------------------------------------------------------

    def _headline(self) -> None:
        q, trials = self.question, self._study.get_trials(deepcopy=False)
        done = sum(t.state.is_finished() and t.number not in _retried(trials) for t in trials)
        self._say(f"{self.folder.name}: {len(q.space.keys)} keys, {q.seeds} seeds side by side, {q.objective}")
        if done:
            self._say(f"going on with {done} of {q.n_trials} trials")

    def _line(self, trial: FrozenTrial, note: str, trials: Sequence[FrozenTrial]) -> None:
        done = _count(trials)
        parts = [f"trial {trial.number} ({done}/{self.question.n_trials})"]
        if trial.state is TrialState.COMPLETE:
            best = _best(trials)
            parts.append(
                self._value(trial) + (", the best" if best is not None and best.number == trial.number else "")
            )
        parts += [note, " ".join(trial.user_attrs["overrides"][len(self.question.fixed) :])]
        left = max(0, self.question.n_trials - done) * sum(self._seconds) / len(self._seconds)
        parts.append(f"{self._seconds[-1]:.1f} s")
        if left:
            parts.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
        self._say("  ".join(part for part in parts if part))

    def _value(self, trial: FrozenTrial) -> str:
        if self.question.objective.metric == "regret":
            return f"regret {trial.value:.4f}"
        # A seed that never got there counts the whole budget and the penalty, which is more than any step.
        reached = sum(steps <= trial.user_attrs["steps"] for steps in trial.user_attrs["per_seed"])
        return f"{trial.value:.0f} steps, {reached} of {self.question.seeds} seeds there"

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


def _open(question: Question, folder: Path) -> optuna.Study:
    """Make the study, or go on with the one that is there."""
    path = folder / STUDY
    try:
        # Two workers write to one file: wait for the other rather than fail.
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        study = optuna.create_study(
            study_name=folder.name,
            storage=storage,
            pruner=_pruner(question.pruning),
            direction="minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, RuntimeError) as error:
        because = str(error).splitlines()[0]
        raise InvalidInput("--out", folder, f"cannot hold the study {STUDY} ({because})") from None
    # As Optuna gives it back: tuples become lists.
    ours = json.loads(json.dumps(question.identity()))
    theirs = study.user_attrs.get("question")
    if theirs is None:
        study.set_user_attr("question", ours)
        with _experimental():
            study.set_metric_names([question.objective.metric])
    for key in ours:
        if theirs is not None and theirs[key] != ours[key]:
            allowed = f"the study in {folder} was begun with another, and its trials do not compare; see --out"
            raise InvalidInput(key, "(changed)", allowed)
    return study


def _pruner(pruning: Pruning) -> optuna.pruners.BasePruner:
    if pruning.name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=pruning.startup, n_warmup_steps=pruning.warmup)
    if pruning.name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=pruning.warmup, reduction_factor=pruning.factor)
    return optuna.pruners.NopPruner()


def _retried(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the trials that another one stands for."""
    return {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}


def _count(trials: Sequence[FrozenTrial]) -> int:
    """Trials that are done or running, each counted once however often it was tried."""
    retried = _retried(trials)
    return sum(t.state is not TrialState.WAITING and t.number not in retried for t in trials)


def _best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    done = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None and math.isfinite(t.value)]
    return min(done, key=lambda t: t.value or 0.0, default=None)


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.get_trials(deepcopy=False)[trial.number]


def _fresh_seed(trial: FrozenTrial, seeds: int) -> int:
    given = [o.removeprefix("seed=") for o in trial.user_attrs["overrides"] if o.startswith("seed=")]
    return (int(given[-1]) if given else 0) + seeds


def _listed(numbers: Sequence[int]) -> str:
    return ("trial " if len(numbers) == 1 else "trials ") + ", ".join(map(str, numbers))


def _write_table(path: Path, trials: Sequence[FrozenTrial]) -> None:
    """One row per trial: what became of it, its parameters, its overrides."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["trial", "state", "value", "steps", "seconds", "retry_of", "error", *names, "overrides"])
        for trial in trials:
            attrs: dict[str, Any] = trial.user_attrs
            about = [attrs.get(name, "") for name in ("steps", "seconds", "retry_of", "error")]
            value = "" if trial.value is None else trial.value
            drawn = [trial.params.get(name, "") for name in names]
            writer.writerow(
                [trial.number, trial.state.name, value, *about, *drawn, shlex.join(attrs.get("overrides", []))]
            )


@contextmanager
def _experimental() -> Iterator[None]:
    """For what Optuna calls experimental, and warns about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
