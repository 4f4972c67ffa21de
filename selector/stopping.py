"""Stopping on a signal: the step is finished, a checkpoint written, and only then the run ends. Imports no torch."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# What launchers and terminals send twice at once is one request; a person takes longer.
_SAME = 0.3  # seconds


class Stopped(KeyboardInterrupt):
    """A signal ended the run.

    Attributes:
        signum: the signal.
        step: the step that the newest checkpoint holds, if the run got so far as to write one because of the signal.
    """

    def __init__(self, signum: int = signal.SIGINT, step: int | None = None) -> None:
        super().__init__(signum, step)
        self.signum, self.step = signum, step

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


class TerminateAsStopped:
    """While the block runs, SIGTERM raises :class:`Stopped`, as SIGINT raises KeyboardInterrupt.

    A handler that somebody else has set (a launcher's, a notebook's) stays.
    """

    def __enter__(self) -> None:
        self._ours = _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._ours:
            signal.signal(signal.SIGTERM, _raise_stopped)

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopRequests:
    """While the block runs, SIGINT and SIGTERM only ask to stop; the training looks at ``signum`` after every step.

    A second SIGINT raises KeyboardInterrupt at once. Handlers that somebody else has set stay; where a launcher waits
    for a warning of its scheduler (USR2), it asks as well, and whoever catches the :class:`Stopped` answers for it.

    Attributes:
        signum: the signal that asked, or None.
        stopped_at: the step of the checkpoint that was written because of it, or None.
        forward: gets every signal as well; for processes that were started from this one.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.stopped_at: int | None = None
        self.forward: Callable[[int], None] | None = None
        self._asked = 0.0
        self._before: dict[int, Any] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopRequests":
        usual = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, _raise_stopped)}
        if _in_main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in usual}
            self._handlers = {
                s: self._ask if self._before[s] in known else self._before[s] for s, known in usual.items()
            }
            warned = signal.getsignal(signal.SIGUSR2)
            if callable(warned):
                self._before[signal.SIGUSR2], self._handlers[signal.SIGUSR2] = warned, self._ask
            self.install()
        return self

    def install(self) -> None:
        """Set the handlers, again where Lightning has put its own in their place."""
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _ask(self, signum: int, _frame: FrameType | None) -> None:
        if self.forward is not None:
            self.forward(signum)
        if self.signum is None:
            self.signum, self._asked = signum, time.monotonic()
            name = signal.Signals(signum).name
            again = "; once more: at once" if signum == signal.SIGINT else ""
            # Not print: the signal may have come in the middle of one.
            os.write(2, f"\n{name}: stopping after this step, with a checkpoint{again}\n".encode())
        elif signum == signal.SIGINT and time.monotonic() - self._asked > _SAME:
            raise KeyboardInterrupt


def _raise_stopped(signum: int, _frame: FrameType | None) -> None:
    raise Stopped(signum)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
