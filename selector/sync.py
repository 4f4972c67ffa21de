"""Send offline W&B runs later: from run folders to W&B's own files, and on to ``wandb sync``."""

import json
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml
from rich.console import Console

from selector.account import check_account
from selector.errors import InvalidInput
from selector.logger import UNSENT, readable_id

_END = re.compile(r"-(seed\d+|all-seeds)$")


def sync(folders: Sequence[Path], wandb_folder: Path, console: Console, *, dry_run: bool = False) -> int:
    """Send the offline runs of some run folders, or all of them, and say what was sent.

    Args:
        folders: run folders, or folders that hold some (a sweep); none: everything below ``wandb_folder``.
        wandb_folder: where W&B's files are.
        console: where the runs are printed.
        dry_run: only say what would be sent.

    Returns:
        0 if all of them were sent (or nothing was left to send), 1 if some were not.

    Raises:
        InvalidInput: for a folder without offline runs, and without an API key.
    """
    names = [name for folder in folders for name in _run_names(folder)]
    found = find_offline(wandb_folder, names if folders else None)
    if not found:
        given = " ".join(map(str, folders)) or wandb_folder
        raise InvalidInput("sync", given, f"no offline runs of it are in {wandb_folder}")
    left = [run for run in found if not is_sent(run)]
    if len(left) < len(found):
        console.print(f"{len(found) - len(left)} of {len(found)} were sent before.", highlight=False)
    if not left or dry_run:
        for run in left:
            console.print(f"would send {run}", highlight=False, soft_wrap=True, markup=False)
        return 0
    check_account("sync", wandb_folder)
    # W&B's public interface to this. It exits with 0 even where a run failed, and marks those that did not fail.
    subprocess.run([sys.executable, "-m", "wandb", "sync", "--no-skip-online", *map(str, left)], check=False)
    for run in left:
        console.print(
            f"{'sent' if is_sent(run) else 'NOT sent':<9}{run}", highlight=False, soft_wrap=True, markup=False
        )
    sent = sum(map(is_sent, left))
    console.print(
        f"{sent} of {len(left)} runs sent." + (" The same command tries the others again." * (sent < len(left)))
    )
    return 0 if sent == len(left) else 1


def find_offline(wandb_folder: Path, names: Collection[str] | None) -> list[Path]:
    """W&B's folders of offline runs, oldest first: of runs with these names, or all of them for None.

    With them those of online runs whose end could not be sent. A run that was resumed has several folders; W&B sends
    them in this order.
    """
    online = [mark.parent for mark in wandb_folder.glob(f"run-*/{UNSENT}")]
    every = [path for path in (*wandb_folder.glob("offline-run-*"), *online) if any(path.glob("run-*.wandb"))]
    every.sort(key=lambda path: path.name.removeprefix("offline-"))
    if names is None:
        return every
    # An id ends in -seed<k> or -all-seeds; what stands before it may have lost characters that W&B forbids.
    ids = {path: next(path.glob("run-*.wandb")).stem.removeprefix("run-") for path in every}
    ends = {path: _END.search(run_id) for path, run_id in ids.items()}
    return [
        path
        for path, end in ends.items()
        if end is not None and any(readable_id(name + end[0]) == ids[path] for name in names)
    ]


def is_sent(run: Path) -> bool:
    """Whether W&B has marked an offline run's folder as sent, and nothing was written to it since."""
    marks = list(run.glob("run-*.wandb.synced"))
    return bool(marks) and all(
        mark.stat().st_mtime >= mark.with_suffix("").stat().st_mtime for mark in marks if mark.with_suffix("").exists()
    )


def _run_names(folder: Path) -> list[str]:
    """The names of the runs in a run folder, or in all run folders below it."""
    if not folder.is_dir():
        raise InvalidInput("run", folder, "no such folder; must be a run folder or one that holds runs")
    runs = [folder] if (folder / ".hydra").is_dir() else sorted(path.parent for path in folder.rglob(".hydra"))
    if not runs:
        raise InvalidInput("run", folder, "no run is here or below it")
    return [_run_name(run.resolve()) for run in runs]


def _run_name(run: Path) -> str:
    """What train.py called the run: result.json says; without one, train.py's own rule."""
    try:
        return str(json.loads((run / "result.json").read_text())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it has not ended
    try:
        mode = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())["hydra"]["mode"]
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError):
        raise InvalidInput("run", run, "is no run folder: .hydra/hydra.yaml does not describe a run") from None
    return f"{run.parent.name}-{run.name}" if mode == "MULTIRUN" else run.name
