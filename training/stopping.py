"""Stop a run at the end of a step on SIGINT (Ctrl-C), SIGTERM or SIGHUP."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Launchers repeat the signal that a terminal has sent to the whole group of processes.
_REPEATED_WITHIN_S = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TrainingInterrupted(KeyboardInterrupt):
    """A signal has stopped a run, whose state is saved.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class StopRequest:
    """Whether a signal has asked the run to stop.

    Attributes:
        number: number of the signal; None while none has come.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._since_s = 0.0
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """Name of the signal, as SIGTERM."""
        return "" if self.number is None else signal.Signals(self.number).name

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take signals while the block runs.

        A second signal, more than two seconds after the first, raises KeyboardInterrupt at once.
        Ignored signals stay ignored. Only the main thread can take signals; elsewhere this does
        nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._handle)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked process that has not set its own handlers
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now_s = time.monotonic()
        if self.number is None:
            self.number, self._since_s = number, now_s
        elif now_s - self._since_s > _REPEATED_WITHIN_S:
            raise TrainingInterrupted("stopped before the step's end", number)


def leave_signals_to_parent(_worker: int) -> None:
    """Keep a data worker alive when its whole process group is signalled.

    The training process ends its workers after the checkpoint is saved. A second SIGTERM ends a
    worker that does not respond to that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, first)
