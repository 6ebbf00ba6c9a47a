"""Defer the handlers of signals until work that must not be interrupted is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def held_signals() -> Iterator[None]:
    """Defer the handlers of signals, such as that of Ctrl-C, until the block is left.

    Python runs handlers in the main thread only, so this does nothing in other threads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    before: dict[int, Handler] = {}
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        if holding:
            arrived.append((number, frame))
        else:  # a handler that is restored already has interrupted the restoring of the others
            before[number](number, frame)

    for valid in signal.valid_signals():
        handler = signal.getsignal(valid)
        if callable(handler):  # a signal that is neither ignored nor left to the system
            before[int(valid)] = handler
    try:
        for number in before:
            signal.signal(number, hold)
        yield
    finally:
        holding = False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in arrived:
            before[number](number, frame)
