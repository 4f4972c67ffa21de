"""Who works on which trial: locks of the operating system, which a killed process loses at once.

Two workers on one study must not count or hand out a trial twice, and a trial whose worker was killed must not stay
"running" for ever. A heartbeat would notice that only after its grace period; a lock tells at once.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Claims:
    """The locks of one study.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "running"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._held: dict[int, IO[bytes]] = {}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other worker is here: for taking a trial, ending it, and counting."""
        with (self._folder / "turn.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def take(self, number: int) -> None:
        """Claim a trial for this process."""
        file = self._path(number).open("ab")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[number] = file

    def drop(self, number: int) -> None:
        """Give a claimed trial back; within a :meth:`turn`, after its end was stored."""
        self._path(number).unlink(missing_ok=True)
        self._held.pop(number).close()

    def alive(self, number: int) -> bool:
        """Whether a living process holds the trial; within a :meth:`turn`."""
        if number in self._held:
            return True
        try:
            with self._path(number).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False  # killed before it could claim what it had asked for
        except BlockingIOError:
            return True
        self._path(number).unlink()
        return False

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.lock"
