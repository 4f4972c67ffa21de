"""``python -m selector features``: train a selector of columns, measure it beside what else chooses columns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import initialize_config_dir
from rich.console import Console
from rich.table import Table as RichTable
from torch import Tensor

from selector.batch import Batch
from selector.composing import CONFIGS, compose_job
from selector.errors import InvalidInput, check_at_least
from selector.experiment import build_experiment
from selector.features import baselines
from selector.features.decoders import linear_errors, mlp_errors
from selector.features.figure import draw_choice
from selector.items import Columns
from selector.networks import FreeLogits
from selector.report.statistics import Interval, bootstrap_iqm
from selector.run import describe, train
from selector.search import coordinate_search

DECODER_STEPS = 1500  # of a fresh decoder
CONCRETE_STEPS = 8000


@dataclass(frozen=True)
class Measured:
    """One method: its choices, and what fresh decoders make of them.

    Attributes:
        method: its name.
        choices: ``[R, S]``, one choice for every seed.
        seconds: time that choosing took, all seeds together.
        linear: ``[R]``, held-out mean squared error of the best linear decoder.
        mlp: ``[R]``, the same of a decoder with a hidden layer.
    """

    method: str
    choices: Tensor
    seconds: float
    linear: Tensor
    mlp: Tensor

    @property
    def distinct(self) -> float:
        """Different columns in a choice, mean over seeds."""
        return float(np.mean([len(set(choice)) for choice in self.choices.tolist()]))


def run_features(
    overrides: Sequence[str],
    *,
    figure: Path,
    console: Console,
    decoder_steps: int = DECODER_STEPS,
    concrete_steps: int = CONCRETE_STEPS,
) -> list[Measured]:
    """Compare the selector of ``experiment=feature_selection`` with other methods.

    Args:
        overrides: as on train.py's command line.
        figure: the png to write: the improved choice of the first seed.
        console: where progress and the table are printed.
        decoder_steps: optimizer steps of every fresh decoder.
        concrete_steps: optimizer steps of the concrete autoencoder.

    Returns:
        One entry per method, the selector first, then its choices improved by a search over single columns.

    Raises:
        InvalidInput: for bad overrides, steps below 1, and problems whose items are no columns of a table.
    """
    check_at_least(1, **{"--decoder-steps": decoder_steps, "--concrete-steps": concrete_steps})
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        cfg = compose_job(["experiment=feature_selection", "logger=none", *overrides])
        experiment = build_experiment(cfg)
    problem, network = experiment.problem, experiment.network
    if not isinstance(problem.items, Columns):
        raise InvalidInput("items", type(problem.items).__name__, "must be Columns: features are columns of a table")
    if not isinstance(network, FreeLogits):
        raise InvalidInput("network", type(network).__name__, "must be FreeLogits: one choice for all rows")
    table, S, N, seeds = problem.items.table, problem.S, problem.N, network.seeds
    console.print(describe(cfg, experiment), highlight=False, soft_wrap=True)

    trained: list[list[int]] = []

    def selector() -> list[list[int]]:
        train(cfg, experiment, console=console)
        trained.extend(problem.choose(network.logits.detach()).tolist())
        return trained

    every_row = Batch(table.train.T.unsqueeze(0))

    def search(start: Sequence[Sequence[int]]) -> list[list[int]]:
        choices = [torch.tensor(choice).view(1, 1, S) for choice in start]
        return [coordinate_search(problem.critic, every_row, choice)[0].flatten().tolist() for choice in choices]

    def at_random() -> list[list[int]]:
        return [baselines.random_columns(table, S, seed) for seed in seeds]

    methods: dict[str, Callable[[], list[list[int]]]] = {
        "selector": selector,
        "selector, then search": lambda: search(trained),
        "random, then search": lambda: search(at_random()),
        "concrete autoencoder": lambda: baselines.concrete(table, S, seeds, concrete_steps).tolist(),
        "greedy": lambda: [baselines.greedy(table, S)] * len(seeds),
        "principal features": lambda: [baselines.principal(table, S, seed) for seed in seeds],
        "mutual information": lambda: [baselines.mutual_information(table, S, seed) for seed in seeds],
        "random": at_random,
        "all columns": lambda: [list(range(N))] * len(seeds),
    }
    measured = []
    for method, choose in methods.items():
        began = time.perf_counter()
        choices = torch.tensor(choose())
        seconds = time.perf_counter() - began
        linear, mlp = linear_errors(table, choices), mlp_errors(table, choices, seeds, decoder_steps)
        measured.append(Measured(method, choices, seconds, linear, mlp))
    print_table(measured, f"{problem.items.data}: {S} of {N} columns, {len(seeds)} seeds", console)
    draw_choice(table, measured[1].choices[0], figure, decoder_steps)
    console.print(f"figure  {figure}", highlight=False, soft_wrap=True)
    return measured


def print_table(measured: Sequence[Measured], title: str, console: Console) -> None:
    """One row per method: errors with 95% intervals over seeds."""
    table = RichTable(title=title, title_justify="left", title_style="bold")
    for column in ("method", "distinct", "MLP decoder", "linear decoder", "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for m in measured:
        table.add_row(m.method, f"{m.distinct:.1f}", _shown(m.mlp), _shown(m.linear), f"{m.seconds:.1f}")
    console.print(table)
    console.print(
        "Held-out mean squared error of decoders fitted afresh on the chosen columns, the same for all methods.\n"
        "Interquartile mean over seeds and its 95% bootstrap interval; a method without randomness has none.",
        highlight=False,
    )


def _shown(errors: Tensor) -> str:
    interval: Interval = bootstrap_iqm([errors.numpy()])
    low, mid, high = (f"{float(x):.5f}".removeprefix("0") for x in (interval.low, interval.estimate, interval.high))
    return mid if low == high else f"{mid} [{low}, {high}]"
