"""Work that a signal must not break off in the middle: its handler runs when the work is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold back the handlers of signals, such as that of Ctrl-C, until the block is left.

    Only the main thread runs handlers, so in any other one this does nothing.
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
        else:  # a handler that was restored before this one has interrupted the others' turn
            before[number](number, frame)

    for valid in signal.valid_signals():
        handler = signal.getsignal(valid)
        if callable(handler):  # not one that is ignored, or left to the system
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
