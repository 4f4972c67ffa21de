"""Files that are either the old ones or the new ones, never half of each."""

import fcntl
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from selector.errors import InvalidInput

LOCK = ".lock"


@contextmanager
def write_atomically(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Give a temporary name beside ``path``; when the block ends without an error, what was written there becomes
    ``path``, on disk before it gets its name. After an error nothing is left behind.

    Args:
        path: the file.
        previous: gets what stood in ``path`` before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as f:
            os.fsync(f.fileno())
        if previous is not None and path.exists():
            link(path, previous)
        temporary.replace(path)
        with suppress(OSError):  # the name as well must outlive a power cut; not every file system can
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def link(path: Path, name: Path) -> None:
    """Give ``path`` a second name in the same folder, in place of what had it; a copy where there are no hard links.

    A file that is only ever replaced by renaming keeps its bytes under the second name.
    """
    temporary = name.with_name(f".{name.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        temporary.replace(name)
    finally:
        temporary.unlink(missing_ok=True)


def claim(folder: Path) -> Path:
    """Make a new folder, with a number behind its name if another run took the same one in the same second."""
    for name in chain([folder.name], (f"{folder.name}-{n}" for n in count(2))):
        try:
            folder.with_name(name).mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.with_name(name)
    raise AssertionError("count() does not end")


@contextmanager
def sole_process(folder: Path, key: str = "name") -> Iterator[None]:
    """Keep every other process out of ``folder`` for as long as the block runs; the lock dies with its process.

    Where the file system has no locks, a line on stderr says so.

    Args:
        folder: made if it is not there.
        key: what a message names.

    Raises:
        InvalidInput: when another process is in it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise InvalidInput(key, folder, f"cannot be written to: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(key, folder, "another process is running in this folder") from None
        except OSError as error:
            why = f"no locks here ({error.strerror}): nothing keeps a second process out of this folder"
            print(f"{folder}: {why}", file=sys.stderr)
        yield


def write_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write ``content`` as JSON, atomically. Numbers that are not finite become null: JSON has no NaN."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path, key: str = "run") -> dict[str, Any]:
    """A JSON object that anyone may have written.

    Args:
        path: the file.
        key: what a message names, beside the file.

    Raises:
        InvalidInput: when it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(key, path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InvalidInput(key, path, "is damaged: it holds no JSON object")
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
