"""``python -m selector probe``: bias and variance of estimators at given logits, as a table and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from selector.batch import Batch
from selector.composing import CONFIGS, compose_job, jobs
from selector.errors import check_at_least
from selector.experiment import Experiment, build_experiment
from selector.gradients import GradientQuality, draw_gradients, probe
from selector.loading import chosen_checkpoint
from selector.noise import SeedNoise
from selector.stored import load_run, stored_overrides


@dataclass(frozen=True)
class Row:
    """One estimator at one temperature."""

    strategy: str
    tau: float
    quality: GradientQuality
    reference: str


def run_probe(
    overrides: Sequence[str],
    *,
    taus: Sequence[float],
    lists: int,
    draws: int,
    logit_std: float,
    run: Path | None,
    figure: Path,
    console: Console,
) -> list[Row]:
    """Probe every estimator that ``overrides`` ask for.

    Args:
        overrides: as on train.py's command line; ``strategy=a,b`` asks for several.
        taus: temperatures; none: the first and the last of each strategy's own schedule.
        lists: item lists that gradients are taken for, >= 2.
        draws: gradients drawn for every list, >= 2.
        logit_std: the logits are normal with this standard deviation.
        run: a run folder whose problem and trained network give the logits instead.
        figure: the png to write.
        console: where the table is printed.

    Raises:
        InvalidInput: for values out of range.
    """
    check_at_least(2, lists=lists, draws=draws)
    check_at_least(0, logit_std=logit_std)
    given = list(overrides)
    state = None
    if run is not None:
        stored = load_run(run, needs="checkpoints/last.ckpt")
        state = chosen_checkpoint(run / "checkpoints" / "last.ckpt")
        # The run's own problem and network; its strategy too, unless others are asked for.
        not_theirs = ("name", "resume", "trust", "seed", "seeds")
        theirs = [one for one in stored_overrides(run, "run") if one.split("=")[0] not in not_theirs]
        given = [*theirs, *given, f"seed={stored.seed}", f"seeds={stored.seeds}"]
    rows = []
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="train"):
        for job in jobs(given):
            cfg = compose_job(job)
            experiment = build_experiment(cfg)
            batch, logits = _at_trained(experiment, state, lists) if state else _at_random(experiment, lists, logit_std)
            schedule = {experiment.tau(0), experiment.tau(cfg.max_steps)}
            for tau in taus or sorted(schedule, reverse=True):
                noise = SeedNoise(experiment.network.seeds, "probe")
                if state is None:  # a baseline that has seen nothing would look worse than it is
                    draw_gradients(experiment.strategy.train(), experiment.problem, batch, logits, tau, noise, 2)
                quality, kind = probe(experiment.strategy, experiment.problem, batch, logits, tau, noise, draws)
                rows.append(Row(_label(cfg, job), tau, quality, kind))
    title = f"{lists} lists of {cfg.hydra.runtime.choices.problem}, {draws} gradients each"
    print_rows(rows, title, console)
    draw_rows(rows, figure, title)
    console.print(f"figure  {figure}", highlight=False)
    return rows


def _label(cfg: DictConfig, job: Sequence[str]) -> str:
    """The strategy, and the options of it that the command line changes."""
    options = [o.removeprefix("strategy.") for o in job if o.startswith("strategy.")]
    return " ".join([str(cfg.hydra.runtime.choices.strategy), *options])


def _at_random(experiment: Experiment, lists: int, std: float) -> tuple[Batch, Tensor]:
    """Lists and logits of the same fixed streams for every estimator."""
    p, seeds = experiment.problem, experiment.network.seeds
    noise = SeedNoise(seeds, "probed")
    batch = p.sample((len(seeds), lists), noise)
    return batch, batch.masked(noise.normal([len(seeds), lists, p.S, p.N]) * std)


@torch.no_grad()
def _at_trained(experiment: Experiment, state: dict[str, dict[str, Tensor]], lists: int) -> tuple[Batch, Tensor]:
    """Lists, and the logits that a checkpoint's network gives them."""
    weights = {k.removeprefix("network."): v for k, v in state["state_dict"].items() if k.startswith("network.")}
    network = experiment.network
    network.load_state_dict(weights)
    learned = {k.removeprefix("strategy."): v for k, v in state["state_dict"].items() if k.startswith("strategy.")}
    if learned.keys() == experiment.strategy.state_dict().keys():  # the run's own strategy, with what it learned
        experiment.strategy.load_state_dict(learned)
    batch = experiment.problem.sample((len(network.seeds), lists), SeedNoise(network.seeds, "probed"))
    return batch, batch.masked(network(batch))


def print_rows(rows: Sequence[Row], title: str, console: Console) -> None:
    """The laboratory's table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("strategy", overflow="fold")  # long ones are broken, so that the numbers fit into 80 columns
    for name in ("tau", "bias", "z", "std", "cosine"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        q = {name: float(getattr(row.quality, name).mean()) for name in ("bias", "z", "std", "cosine")}
        verdict = "biased" if q["z"] > 3 else "within noise"
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
        "z is the squared bias in standard errors; beyond 3 it is not noise. "
        f"Reference: {', '.join(sorted({row.reference for row in rows}))}.",
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
        real = [float(row.quality.z.mean()) > 3 for row in mine]
        bias = [max(float(row.quality.bias.mean()), 1e-3) if r else 1e-3 for row, r in zip(mine, real, strict=True)]
        std = [max(float(row.quality.std.mean()), 1e-3) for row in mine]
        axes.plot(bias, std, markers[i % len(markers)] + ":", color=f"C{i % 10}", label=name, ms=8, lw=0.8)
        if len(mine) > 1:
            for x, y, row in zip(bias, std, mine, strict=True):
                axes.annotate(f"{row.tau:g}", (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
    axes.set(xscale="log", yscale="log", title=title)
    axes.set_xlabel("relative bias (left edge: zero within sampling noise)")
    axes.set_ylabel("relative standard deviation of one draw")
    axes.grid(alpha=0.3, which="both", lw=0.5)
    figure.legend(loc="outside right upper", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png")
