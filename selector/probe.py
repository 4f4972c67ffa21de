"""Watching the gradient on the user's own problem: while training, and at any logits from the command line.

Shape legend: R seeds trained side by side · L lists · S slots · N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from selector.batch import Batch
from selector.errors import check_at_least
from selector.gradients import GradientQuality, compare, draw_gradients, find_reference
from selector.module import SelectorModule
from selector.noise import SeedNoise
from selector.problems import Problem
from selector.recording import Recorder
from selector.strategies import Strategy


class GradientProbe(pl.Callback):
    """Records ``grad/bias``, ``grad/std`` and ``grad/cosine`` of the estimator as training goes on.

    Measured at the network's own logits for some of the held-out lists. All random numbers come from streams of their
    own and the strategy is in evaluation mode, so that probing changes nothing of the training.

    Args:
        recorder: where the numbers go.
        every: optimizer steps between two probes.
        lists: L, held-out lists that are probed.
        draws: gradients drawn for every list.

    Raises:
        InvalidInput: for values below 1 (2 for ``lists`` and ``draws``).
    """

    def __init__(self, recorder: Recorder, every: int, lists: int = 16, draws: int = 64) -> None:
        check_at_least(1, every=every)
        check_at_least(2, lists=lists, draws=draws)
        self.recorder, self.every, self.lists, self.draws = recorder, every, lists, draws
        self._probed = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step % self.every or trainer.global_step == self._probed:
            return
        assert isinstance(pl_module, SelectorModule)
        self._probed = trainer.global_step
        with self.recorder.paused():
            quality = self._measure(pl_module, trainer.global_step)
            values = {f"grad/{name}": getattr(quality, name).tolist() for name in ("bias", "std", "cosine")}
            self.recorder.add(trainer, pl_module, values)

    @torch.no_grad()
    def _measure(self, module: SelectorModule, step: int) -> GradientQuality:
        assert module.held_out is not None
        seeds = module.network.seeds
        lists = min(self.lists, module.held_out.batch.items.shape[0])
        batch = module.held_out.batch.narrow(0, lists).expand(len(seeds))
        logits = batch.masked(module.network(batch.items).float())
        noise = SeedNoise(seeds, f"probe/{step}", logits.device)
        return probe(module.strategy, module.problem, batch, logits, module.current_tau, noise, self.draws)[0]


def probe(
    strategy: Strategy, problem: Problem, batch: Batch, logits: Tensor, tau: float, noise: SeedNoise, draws: int
) -> tuple[GradientQuality, str]:
    """Measure one estimator at one tau; see :mod:`selector.gradients`. Returns the quality and the reference's kind."""
    training = strategy.training
    strategy.eval()
    try:
        reference = find_reference(problem, batch, logits, noise, 4 * draws)
        estimate = draw_gradients(strategy, problem, batch, logits, tau, noise, draws)
    finally:
        strategy.train(training)
    return compare(estimate, reference), reference.kind


@dataclass(frozen=True)
class Row:
    """One estimator at one temperature."""

    strategy: str
    tau: float
    quality: GradientQuality
    reference: str


def print_rows(rows: Sequence[Row], title: str, console: Console) -> None:
    """The laboratory's table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("strategy", "tau", "bias", "z of bias²", "std", "cosine", ""):
        table.add_column(name, justify="left" if name in ("strategy", "") else "right")
    for row in rows:
        q = {name: float(getattr(row.quality, name).mean()) for name in ("bias", "z", "std", "cosine")}
        verdict = "biased" if q["z"] > 3 else "within noise of zero"
        table.add_row(
            row.strategy,
            f"{row.tau:g}",
            f"{q['bias']:+.3f}",
            f"{q['z']:+.1f}",
            f"{q['std']:.2f}",
            f"{q['cosine']:.3f}",
            verdict,
        )
    console.print(table)
    console.print(
        "bias and std are relative to the true gradient's norm; a negative bias means less than sampling noise alone.\n"
        f"Reference: {', '.join(sorted({row.reference for row in rows}))}. biased: z > 3.",
        highlight=False,
    )


def draw_rows(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a png: bias against standard deviation, one point per strategy and tau."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from selector.files import write_atomically

    figure = Figure(figsize=(8, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(dict.fromkeys(row.strategy for row in rows))
    markers = "os^Dv<>pP*hXd"
    for i, name in enumerate(names):
        mine = [row for row in rows if row.strategy == name]
        bias = [max(float(row.quality.bias.mean()), 1e-3) for row in mine]
        std = [max(float(row.quality.std.mean()), 1e-3) for row in mine]
        axes.plot(bias, std, markers[i % len(markers)] + ":", color=f"C{i % 10}", label=name, ms=8, lw=0.8)
        if len(mine) > 1:
            for x, y, row in zip(bias, std, mine, strict=True):
                axes.annotate(f"{row.tau:g}", (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
    axes.set(xscale="log", yscale="log", title=title)
    axes.set_xlabel("relative bias (0.001: at or below sampling noise)")
    axes.set_ylabel("relative standard deviation of one draw (0.001: none)")
    axes.grid(alpha=0.3, which="both", lw=0.5)
    figure.legend(loc="outside right upper", frameon=False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")
