"""Many jobs in one command: how far they are, and which of them failed."""

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FAILED = "error.txt"


@dataclass
class _Sweep:
    total: int = 0
    began: float = 0.0
    failed: int = 0


_sweep = _Sweep()


def begin(total: int) -> None:
    """Start counting ``total`` jobs."""
    _sweep.total, _sweep.began, _sweep.failed = total, time.perf_counter(), 0


def progress(number: int) -> str:
    """One line before job ``number`` (0 is the first): which it is, and how long the rest may take."""
    if not _sweep.total:  # a launcher runs the job in a process of its own, which does not know the others
        return f"job {number + 1}"
    line = f"job {number + 1}/{_sweep.total}"
    if number:
        left = (time.perf_counter() - _sweep.began) / number * (_sweep.total - number)
        line += f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
    return line + (f", {_sweep.failed} failed" if _sweep.failed else "")


def start(folder: Path) -> None:
    """Forget the failure of an earlier attempt in the same run folder."""
    (folder / FAILED).unlink(missing_ok=True)


def fail(folder: Path, overrides: Sequence[str]) -> None:
    """Keep why a job failed, the exception being handled, in its run folder: others go on, none is lost in silence.

    Args:
        folder: the run folder.
        overrides: what the job was asked for, which tells it from the others.
    """
    _sweep.failed += 1
    error = sys.exception()
    line = f"{type(error).__name__}: {' '.join(str(error).split())} ({' '.join(overrides)})"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).write_text(f"{line}\n\n{traceback.format_exc()}")
        more = f" (traceback in {FAILED})"
    except OSError:  # the disk is full, which may be why the job failed
        more = ""
    print(f"failed: {folder}: {line}{more}", file=sys.stderr)


def any_failed() -> bool:
    """Whether a job of this process failed."""
    return _sweep.failed > 0


def end(folders: Sequence[Path]) -> int:
    """Report the jobs of a multirun that failed.

    Returns:
        The exit code: 3 if any job failed, else 0.
    """
    failed = [folder for folder in folders if (folder / FAILED).exists()]
    for folder in failed:
        reason = (folder / FAILED).read_text().splitlines()[0]
        print(f"failed: {folder}: {reason}", file=sys.stderr)
    print(f"{len(folders) - len(failed)} of {len(folders)} jobs done", file=sys.stderr)
    return 3 if failed else 0
