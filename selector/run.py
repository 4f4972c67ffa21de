"""One run as train.py makes it: build, fit, write result.json and convergence.png, print what came out."""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from selector.checkpoints import BEST, LAST, exists, newest
from selector.config import plain
from selector.experiment import Experiment, build_experiment, build_logger
from selector.files import read_json, write_json
from selector.history import given_history
from selector.loading import chosen_checkpoint, fill, under
from selector.logger import SeedWandb
from selector.metrics import HeldOut, evaluate, evaluate_search
from selector.processes import is_lead
from selector.provenance import device, git_state, versions
from selector.report.convergence import draw_convergence
from selector.same_run import run_digest
from selector.search import Search
from selector.stopping import Stopped
from selector.sweep import RESULT
from selector.training import Result, fit

LINE: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # how the console prints paths


def run(cfg: DictConfig, folder: Path, console: Console) -> Result:
    """Train what ``cfg`` describes and leave in ``folder`` what a run leaves behind.

    Args:
        cfg: a composed configuration, see configs/train.yaml.
        folder: the run folder.
        console: where progress and the table are printed.

    Raises:
        InvalidInput: naming the key that is wrong.
        FloatingPointError: when every seed diverged.
        KeyboardInterrupt: when the user stopped the run; it is a Stopped where that was after a checkpoint.
        OSError: when a file could not be written.
    """
    began = time.perf_counter()
    experiment = build_experiment(cfg)
    resuming = cfg.resume is not None and exists(folder)
    if resuming and (folder / RESULT).exists() and read_json(folder / RESULT).get("config_digest") == digest(cfg):
        result = Result.of(given_history(folder / "metrics.csv"), experiment.problem.oracle_kind)
        console.print(f"{folder} is finished already (result.json is there).", highlight=False)
        print_result(result, cfg.name, console)
        return result

    logger = build_logger(cfg, experiment.network.seeds) if is_lead() else None
    if isinstance(logger, SeedWandb):
        later = f"send it later with: python -m selector sync {folder}"
        logger.say = lambda line: console.print(f"W&B {line}; {later}", **LINE)
    console.print(f"{cfg.name}: {describe(cfg, experiment)}", **LINE)
    if resuming:
        state = newest(folder).content
        console.print(f"Going on from step {state['global_step']}.", **LINE)
        if state["selector"]["max_steps"] != cfg.max_steps:
            was = state["selector"]["max_steps"]
            console.print(f"max_steps was {was}: schedules that ended there now end at {cfg.max_steps}.", **LINE)
    try:
        if isinstance(logger, SeedWandb) and cfg.accelerator.devices == 1:
            logger.start()  # with several, the training may run in forked processes: W&B starts there
        result = train(
            cfg,
            experiment,
            folder=folder,
            resume=resuming,
            about={**about(cfg), "run_digest": run_digest(cfg)},
            loggers=[logger] if logger is not None else [],
            console=console,
        )
    except (KeyboardInterrupt, OSError) as error:
        if isinstance(error, Stopped) and error.step is not None:
            console.print(f"Stopped at step {error.step}, which {folder}/checkpoints/{LAST} holds.", **LINE)
        elif isinstance(error, Stopped) and exists(folder):
            console.print(f"Stopped; the step is not saved, the newest checkpoint in {folder} is an older one.", **LINE)
        if exists(folder):
            console.print(f"Go on with: python train.py resume={folder}", **LINE)
        raise
    finally:
        if isinstance(logger, SeedWandb):
            logger.close()
    if not is_lead():
        return result
    draw_convergence(result.history, folder / "convergence.png", cfg.name, result.oracle_kind)
    write_json(folder / RESULT, result_content(cfg, result, time.perf_counter() - began))
    print_result(result, cfg.name, console)
    if not any(map(math.isfinite, result.metrics["regret"])):
        raise FloatingPointError(f"no seed has finite logits at step {result.steps}; lower optimizer.lr, or clip")
    print_paths(folder, isinstance(logger, SeedWandb) and cfg.logger.mode != "disabled", cfg, console)
    return result


def train(cfg: DictConfig, experiment: Experiment, **options: Any) -> Result:
    """Train what ``cfg`` describes.

    Args:
        cfg: a composed configuration.
        experiment: what was built from it.
        options: further arguments of :func:`selector.training.fit`: where results go, callbacks.
    """
    if cfg.accelerator.tf32:
        torch.set_float32_matmul_precision("high")
    _, result = fit(
        experiment.problem,
        experiment.network,
        experiment.strategy,
        experiment.tau,
        steps=cfg.max_steps,
        batch_size=cfg.batch_size,
        optimizer=experiment.optimizer,
        val_every=cfg.val_every,
        held_out=cfg.held_out,
        entropy=experiment.entropy,
        critic=experiment.critic,
        probe_every=cfg.probe.every,
        stop_at_regret=cfg.stop_at_regret,
        patience=cfg.patience,
        checkpoints_required=cfg.checkpoints_required,
        compile_network=cfg.accelerator.compile,
        steps_per_call=cfg.steps_per_call,
        trainer=experiment.trainer,
        **options,
    )
    return result


def describe(cfg: DictConfig, experiment: Experiment) -> str:
    """The run in one line."""
    p, network = experiment.problem, experiment.network
    size = sum(parameter.numel() for parameter in network.parameters()) // len(network.seeds)
    seeds = f"seed {cfg.seed}" if cfg.seeds == 1 else f"seeds {cfg.seed}..{cfg.seed + cfg.seeds - 1} side by side"
    return (
        f"N {p.N}, S {p.S}, D {p.D}, {p.critic.title}, {network.title} with {size:,} parameters, "
        f"{type(experiment.strategy).__name__}, {seeds}, {cfg.max_steps} steps of {cfg.batch_size} lists"
    )


def evaluate_run(
    cfg: DictConfig,
    folder: Path,
    checkpoint: str,
    console: Console,
    figure: Path | None = None,
    search: Search | None = None,
) -> dict[str, list[float]]:
    """Measure a run's checkpoint again, print the table, return the metrics (name -> one number per seed).

    Args:
        cfg: the run's configuration.
        folder: the run folder.
        checkpoint: "last" or "best".
        console: where the table is printed.
        figure: where to draw the S×N logits of one held-out list of the first seed; None draws nothing.
        search: measured as well: what it makes of the network's choices.

    Raises:
        InvalidInput: for a search with a critic that is an estimate.
    """
    from selector.report.logits import draw_logits

    path = folder / "checkpoints" / {"last": LAST, "best": BEST}[checkpoint]
    state = chosen_checkpoint(path)
    history = given_history(folder / "metrics.csv")
    experiment = build_experiment(cfg, measuring=True)
    network, problem = experiment.network, experiment.problem
    if search is not None:
        search.check(problem.critic, "--search")
    fill(network, under(state["state_dict"], "network."), path)
    step = state["global_step"]
    held_out = HeldOut.draw(problem, cfg.held_out)
    metrics = {
        name: value.tolist()
        for name, value in evaluate(network, problem, held_out, experiment.tau(step)).metrics.items()
    }
    if search is not None:
        found = evaluate_search(network, problem, held_out, search)
        metrics |= {name: value.tolist() for name, value in found.items()}
    samples = step * cfg.batch_size * cfg.trainer.get("accumulate_grad_batches", 1)
    seconds = history.seconds_at(step)
    result = Result(problem.oracle_kind, network.seeds, step, samples, metrics, history, seconds)
    print_result(result, f"{cfg.name}, {checkpoint} checkpoint", console)
    if search is not None:
        sweeps = "1 sweep" if search.sweeps == 1 else f"{search.sweeps} sweeps"
        console.print(
            f"searched: regret after {sweeps} with {search.width} choices kept, from the network's choice; at most "
            f"{search.queries(problem.S, problem.N):,} losses a list. The same from a random choice ends with regret "
            f"{result.mean('random_searched_regret'):.4f}.",
            **LINE,
        )
    if figure is not None:
        draw_logits(network, held_out, figure)
        console.print(f"logits  {figure}", highlight=False)
    return metrics


def result_content(cfg: DictConfig, result: Result, total_seconds: float) -> dict[str, Any]:
    """What result.json holds."""
    trained = [r for r in result.history.records if r.step > 0 and "val/regret" in r.values]
    best = min(trained, key=lambda r: _mean_of_finite(r.values["val/regret"]))
    return {
        "name": cfg.name,
        **about(cfg),
        "steps": result.steps,
        "samples": result.samples,
        "oracle_kind": result.oracle_kind,
        "failed": [{"seed": seed, "step": step} for seed, step in result.failed.items()],
        "final": {
            "mean": {key: result.mean(key) for key in result.metrics},
            "per_seed": [
                {"seed": seed, **{key: values[r] for key, values in result.metrics.items()}}
                for r, seed in enumerate(result.seeds)
            ],
        },
        "best": {"step": best.step, "samples": best.samples, "regret": _mean_of_finite(best.values["val/regret"])},
        "timing": {
            "training_seconds": result.seconds,
            "total_seconds": total_seconds,
            "steps_per_second": result.steps / result.seconds if result.seconds else None,
        },
        "config": plain(cfg),
    }


def about(cfg: DictConfig) -> dict[str, Any]:
    """Where the numbers come from: result.json and every checkpoint name it."""
    return {
        "config_digest": digest(cfg),
        "versions": versions(),
        "git": git_state(),
        "device": device(cfg.accelerator.accelerator),
        "seeds": list(range(cfg.seed, cfg.seed + cfg.seeds)),
    }


def digest(cfg: DictConfig) -> str:
    """A fingerprint of everything in a configuration that can change the numbers."""
    content = plain(cfg, without=("name", "resume", "trust", "logger", "checkpoints_required", "steps_per_call"))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def print_result(result: Result, title: str, console: Console, most_rows: int = 16) -> None:
    """The table at the end of a run: one row per seed, and their mean."""
    columns = ["hard_loss", "oracle_loss", "regret", "accuracy", "logit_std"]
    if "searched_regret" in result.metrics:
        columns.insert(3, "searched_regret")
    shown = {"logit_std": "logit spread", "oracle_loss": "oracle", "searched_regret": "searched"}
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("seed", justify="right")
    for name in columns:
        table.add_column(shown.get(name, name.replace("_", " ")))
        table.columns[-1].justify = "right"

    def cells(row: dict[str, float]) -> list[str]:
        return [f"{row[name]:.4f}" if name in row else "-" for name in columns]

    for r, seed in enumerate(result.seeds[:most_rows]):
        table.add_row(str(seed), *cells({name: values[r] for name, values in result.metrics.items()}))
    if len(result.seeds) > most_rows:
        table.add_row("...", *["..."] * len(columns))
    if len(result.seeds) > 1:
        table.add_section()
        table.add_row("mean", *cells({name: result.mean(name) for name in result.metrics}), style="bold")
    console.print(table)
    for seed, step in result.failed.items():
        console.print(f"Seed {seed} failed at step {step}: its loss or gradient was not finite, it was frozen.", **LINE)
    kind = {
        "separable": "exact oracle (slot by slot)",
        "assignment": "exact oracle (assignment without replacement)",
        "enumerated": "exact oracle (all N^S choices tried)",
        "best-known": "best-known oracle (coordinate search): the true regret may be higher",
        "estimated": "estimated oracle (coordinate search on mean rewards): the true regret may be higher or lower",
    }[result.oracle_kind]
    note = "" if "accuracy" in result.metrics else "; no accuracy: the best choice is not unique or not known"
    speed = f", {result.steps / result.seconds:.0f} steps/s" if result.seconds else ""
    console.print(
        f"Regret: 0 is the oracle, 1 is random choice; {kind}{note}.\n"
        f"{result.steps} steps, {result.samples:,} lists per seed, {result.seconds:.1f} s of training{speed}.",
        highlight=False,
    )


def print_paths(folder: Path, wandb: bool, cfg: DictConfig, console: Console) -> None:
    """What was written, and what to try next."""
    rows = [
        ("metrics", folder / "metrics.csv"),
        ("result", folder / RESULT),
        ("figure", folder / "convergence.png"),
        ("checkpoints", folder / "checkpoints"),
    ]
    if wandb:
        rows.append(("W&B", Path(cfg.logger.folder) / "wandb"))
    for label, path in rows:
        console.print(f"{label:<12}{path}", highlight=False, soft_wrap=True)
    other = "st_argmax" if "STArgmax" not in cfg.strategy._target_ else "st_gumbel"
    console.print(
        f"Next: python -m selector evaluate {folder}\n"
        f"      python train.py strategy={other} seeds=5        # the same problem, another estimator",
        highlight=False,
        soft_wrap=True,
    )


def _mean_of_finite(values: list[float]) -> float:
    """The mean over the seeds that did not diverge; infinite if all did."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.inf
