"""Many jobs in one command: how far they are, and which of them failed."""

import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FAILED = "error.txt"
RESULT = "result.json"


@dataclass
class _Sweep:
    total: int = 0
    began: float = 0.0
    failed: int = 0


_sweep = _Sweep()


def begin(total: int) -> None:
    """Start counting ``total`` jobs, which run one after the other in this process."""
    _sweep.total, _sweep.began, _sweep.failed = total, time.perf_counter(), 0


def is_launched() -> bool:
    """Whether a launcher runs this job in a process of its own, which does not know the others."""
    return not _sweep.total


def progress(number: int) -> str:
    """One line before job ``number`` (0 is the first): which it is, and how long the rest may take."""
    if is_launched():
        return f"job {number + 1}"
    line = f"job {number + 1}/{_sweep.total}"
    if number:
        line += f", {_left(number, _sweep.total, _sweep.began)}"
    return line + (f", {_sweep.failed} failed" if _sweep.failed else "")


def _left(done: int, total: int, began: float) -> str:
    seconds = (time.perf_counter() - began) / done * (total - done)
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


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


@contextmanager
def watched(folders: Sequence[Path], every: float = 2.0) -> Iterator[None]:
    """While the block runs, print a line whenever jobs that run elsewhere have ended.

    Args:
        folders: their run folders.
        every: seconds between two looks.
    """
    over = threading.Event()
    # What an earlier command left is no news.
    before = [folder for folder in folders if (folder / RESULT).exists() and not (folder / FAILED).exists()]
    waiting = {folder for folder in folders if folder not in before}

    def watch() -> None:
        began, failed, total = time.perf_counter(), 0, len(waiting)
        last = False
        while waiting and not last:
            last = over.wait(every)  # the last jobs end just before all is over
            ended = {folder for folder in waiting if (folder / RESULT).exists() or (folder / FAILED).exists()}
            if not ended:
                continue
            waiting.difference_update(ended)
            failed += sum((folder / FAILED).exists() for folder in ended)
            line = f"{total - len(waiting)}/{total} jobs ended"
            line += f", {_left(total - len(waiting), total, began)}" if waiting and not last else ""
            print(line + (f", {failed} failed" if failed else ""), file=sys.stderr)

    # What failed before has its error.txt until it starts again.
    for folder in folders:
        start(folder)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def end(folders: Sequence[Path]) -> int:
    """Report the jobs of a multirun that failed, and those that did not come to an end.

    Returns:
        The exit code: 3 if there are any, else 0.
    """
    failed = [folder for folder in folders if (folder / FAILED).exists()]
    for folder in failed:
        reason = (folder / FAILED).read_text().splitlines()[0]
        print(f"failed: {folder}: {reason}", file=sys.stderr)
    missing = [folder for folder in folders if folder not in failed and not (folder / RESULT).exists()]
    for folder in missing:
        state = "did not end" if folder.exists() else "did not start"
        print(f"{state}: {folder}", file=sys.stderr)
    print(f"{len(folders) - len(failed) - len(missing)} of {len(folders)} jobs done", file=sys.stderr)
    if missing:
        again = f"the same command with hydra.sweep.dir={folders[0].parent} resume=auto"
        print(f"What is done stays, the rest goes on with: {again}", file=sys.stderr)
    return 3 if failed or missing else 0
