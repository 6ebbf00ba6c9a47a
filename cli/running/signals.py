"""Signals that ask the program to end: each is met like Ctrl-C, with an exit code of its own."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal has asked the program to end. number: which one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Ending:
    """Which signal has asked the program to end; Ctrl-C if none is known to have."""

    def __init__(self) -> None:
        self.number: int = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells report it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


@contextmanager
def ending_signals() -> Iterator[Ending]:
    """Let SIGTERM and SIGHUP raise `Terminated` in this process, unless they are ignored.

    Processes that are forked from it end by these signals as usual.
    """
    ending, process = Ending(), os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        ending.number = number
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield ending  # only the main thread may set handlers
        return
    before = {
        number: signal.signal(number, end)
        for number in _ENDING
        if signal.getsignal(number) is signal.SIG_DFL  # as nohup leaves SIGHUP ignored
    }
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
