"""Run a run again in a fresh folder, and say whether every metric is the same."""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from selector.errors import InvalidInput
from selector.files import claim, read_json, sole_process
from selector.history import given_history
from selector.stored import load_run

# What the clock says differs from run to run.
_CLOCK = ("seconds", "steps_per_s", "samples_per_s")
_SHOWN = 10
_MOST_THREADS = 4096  # a damaged file must not ask for millions


class Difference(NamedTuple):
    """A metric of one step and seed in the two runs; None where it is missing."""

    step: int
    seed: int
    key: str
    was: float | None
    now: float | None


def reproduce(run_folder: Path, out: Path | None, console: Console, trust: Sequence[str] = ()) -> int:
    """Run ``run_folder``'s configuration again and compare all metrics but those of the clock.

    Args:
        run_folder: a finished run.
        out: the fresh folder; None is ``<run folder>-again``, with a number if that is taken.
        console: where progress and differences are printed.
        trust: packages that a ``_target_`` of the run may come from.

    Returns:
        0 if every metric is the same bit for bit, 1 if not.

    Raises:
        InvalidInput: when ``run_folder`` holds no finished run, or ``out`` is taken.
        FloatingPointError, OSError: as :func:`selector.run.run`.
    """
    cfg = load_run(run_folder, needs="result.json", trust=trust)
    stored_digest, made = _origin(run_folder / "result.json")
    given_history(run_folder / "metrics.csv")
    import torch

    from selector.experiment import build_experiment
    from selector.provenance import device, git_state, versions
    from selector.run import digest, run

    build_experiment(cfg)  # what is wrong with it is said before anything is written
    if out is None:
        out = claim(run_folder.with_name(f"{run_folder.name}-again"))
    elif out.exists() and any(out.iterdir()):
        raise InvalidInput("--out", out, "must be a new folder")
    if cfg.accelerator.accelerator == "cpu":
        torch.set_num_threads(made["device"]["threads"])
    here = device(cfg.accelerator.accelerator)
    now = {"versions": versions(), "git": git_state(), "device": here}
    for line in _changes(made, now):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if stored_digest != digest(cfg):
        console.print("the configuration in .hydra/ is not the one of result.json", highlight=False)
    if here["name"] != "cpu" and not cfg.trainer.get("deterministic"):
        console.print(
            f"{here['name']} may add in another order than before; +trainer.deterministic=true asks it not to.",
            highlight=False,
        )
    cfg.name, cfg.resume = out.name, None
    cfg.logger = {"_target_": None}
    with sole_process(out):
        shutil.copytree(run_folder / ".hydra", out / ".hydra", dirs_exist_ok=True)
        run(cfg, out, console)
    return _report(run_folder, out, console)


def _origin(path: Path) -> tuple[object, dict[str, Any]]:
    """The fingerprint of the configuration in a result.json, and what :mod:`selector.provenance` said of its run.

    Raises:
        InvalidInput: when it does not hold them.
    """
    stored = read_json(path)
    made = {key: stored.get(key) for key in ("versions", "git", "device")}
    threads = made["device"].get("threads") if isinstance(made["device"], dict) else None
    wrong = {
        "versions": not isinstance(made["versions"], dict),
        "git": not isinstance(made["git"], dict | None),
        "device": not isinstance(made["device"], dict),
        "device.threads": type(threads) is not int or not 1 <= threads <= _MOST_THREADS,
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise InvalidInput("run", path, f"does not say where its numbers come from: {key} is missing or wrong")
    return stored.get("config_digest"), made


def _report(was: Path, now: Path, console: Console) -> int:
    found = list(differences(was / "metrics.csv", now / "metrics.csv"))
    if not found:
        console.print(f"identical: every metric of {was} and {now}", highlight=False, soft_wrap=True)
        return 0
    table = Table(title=f"different: {len(found)} numbers; the first of them", title_justify="left")
    for column in ("step", "seed", "metric", str(was), str(now)):
        table.add_column(column)
    for d in found[:_SHOWN]:
        table.add_row(str(d.step), str(d.seed), d.key, *("-" if v is None else repr(v) for v in (d.was, d.now)))
    console.print(table)
    return 1


def differences(was: Path, now: Path) -> Iterator[Difference]:
    """All numbers that differ between two metrics.csv, in the order of their steps; those of the clock do not count."""
    ours, theirs = _numbers(was), _numbers(now)
    for place in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(place), theirs.get(place)
        both_nan = a is not None and b is not None and math.isnan(a) and math.isnan(b)
        if a != b and not both_nan:
            yield Difference(*place, a, b)


def _numbers(path: Path) -> dict[tuple[int, int, str], float]:
    history = given_history(path)
    return {
        (record.step, seed, key): value
        for record in history.records
        for key, values in record.values.items()
        if key not in _CLOCK
        for seed, value in zip(history.seeds, values, strict=True)
    }


def _changes(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """One line for everything that is not as it was when the run was made."""
    for name, version in was["versions"].items():
        if now["versions"].get(name) != version:
            yield f"{name} was {version}, is {now['versions'].get(name)}"
    commits = [(state or {}).get("commit", "unknown") for state in (was["git"], now["git"])]
    if commits[0] != commits[1]:
        yield f"the source was commit {commits[0]}, is {commits[1]}"
    for when, state in (("was", was["git"]), ("is", now["git"])):
        if (state or {}).get("dirty"):
            yield f"the source {when} changed since its commit"
    for name, value in was["device"].items():
        if now["device"].get(name) != value:
            yield f"device: {name} was {value}, is {now['device'].get(name)}"
