"""What the readers of files share that anyone may have written: they believe nothing that they have not checked."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from selector.errors import InvalidInput
from selector.memory import memory


class UnreadableFile(Exception):
    """Why a file is none of what its name says; becomes an :class:`InvalidInput` that names the file."""


def check_file(path: Path) -> os.stat_result:
    """Refuse what cannot be read: a missing path, a folder, a device.

    Raises:
        InvalidInput: with the key "path".
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InvalidInput("path", path, "no such file") from None
    except (OSError, ValueError) as error:  # not allowed, too long, a NUL in it
        raise InvalidInput("path", path, reason(error)) from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise InvalidInput("path", path, f"is {what}; must be a file")
    if not os.access(path, os.R_OK):
        raise InvalidInput("path", path, "may not be read")
    return found


def check_memory(size: int) -> None:
    """Refuse what would fill the memory.

    Args:
        size: bytes.

    Raises:
        UnreadableFile: when it is more than half of this machine's memory.
    """
    if size > memory() // 2:
        raise UnreadableFile(f"needs {size / 2**30:,.1f} GiB of memory; a .npy file is read from disk piece by piece")


def listing(names: Collection[str]) -> str:
    """At most a handful of names, each printable and short."""
    shown = [name[:40] if name.isprintable() else "?" for name in list(names)[:6]]
    return ", ".join(shown) + (", ..." if len(names) > 6 else "") or "none"


def reason(error: Exception) -> str:
    """The first line of an exception."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.splitlines()
    return lines[0][:120] if lines and lines[0].isprintable() else type(error).__name__
