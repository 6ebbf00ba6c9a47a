"""Several videos in progress at once, each in a thread of its own, sharing one model thread.

A video's thread decodes, preprocesses, cuts windows and waits for answers. The model has its own
thread (`vidground.inference.model_thread`). Results are yielded, and thus written, in the thread
that iterates over them. Knows neither questions nor results.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from os import PathLike
from queue import SimpleQueue
from typing import Any

from vidground.errors import VidgroundError
from vidground.faults import as_internal, is_fault
from vidground.inference.backends import SharedBackend
from vidground.inference.model_thread import AbandonedError, ModelThread
from vidground.memory import BatchSize
from vidground.outcomes import Item, Made, Outcome

_JOIN_TIMEOUT_S = 2.0
"""Maximum time to wait for threads whose work has been abandoned."""


def in_order(
    outcomes: Iterable[Outcome[tuple[int, str | PathLike[str]], Made]],
    on_error: Callable[[str, VidgroundError], None] | None,
) -> Generator[Made, None, None]:
    """Yield the results of files in the order of the files.

    Args:
        outcomes: of (number, path) pairs numbered from 0, in any order.
        on_error: called with the path and the error of a file that failed, which is then skipped;
            the error is an InternalError for a bug in vidground. None to raise the original
            exception.
    """
    waiting: dict[int, tuple[str, Made | Exception]] = {}
    turn = 0
    for done in outcomes:
        number, path = done.item
        waiting[number] = os.fspath(path), done.result
        while turn in waiting:
            name, outcome = waiting.pop(turn)
            turn += 1
            if not isinstance(outcome, Exception):
                yield outcome
                continue
            error = as_internal(outcome, name) if is_fault(outcome) else outcome
            if on_error is None or not isinstance(error, VidgroundError):
                raise outcome
            on_error(name, error)


class Pipeline:
    """Works on several items at once, each in a thread of its own; for one call of `run`.

    Args:
        start_model: starts the thread that runs the model; it is closed when the iteration ends.
        frames: maximum number of frames encoded at once.
        items: maximum number of items in progress.
        readers: maximum number of items whose videos are being read.
    """

    _model: ModelThread

    def __init__(
        self,
        start_model: Callable[[], ModelThread],
        frames: BatchSize,
        *,
        items: int,
        readers: int,
    ) -> None:
        self._start_model = start_model
        self._frames = frames
        self._max_items = items
        self._max_readers = readers
        self._events: SimpleQueue[Callable[[], Outcome[Any, Any] | None]] = SimpleQueue()
        self._running: dict[int, tuple[threading.Thread, SharedBackend]] = {}
        self._started = 0
        self._share_s, self._counted_at = 0.0, 0.0

    def run(
        self, items: Iterable[Item], work: Callable[[SharedBackend, Item], Made]
    ) -> Generator[Outcome[Item, Made], None, None]:
        """Work on items; yield each outcome as soon as it is known.

        Items are taken and progress functions called in the thread that iterates. Work in progress
        is abandoned when the iteration ends early.

        Args:
            items: taken one at a time, each when there is room for it.
            work: makes the result of an item; called in a thread of its own, with what computes.
        """
        rest, more = iter(items), True
        self._model = self._start_model()
        try:
            while True:
                while more and self._has_room:
                    more = self._start(rest, work)
                if not self._running:
                    return
                outcome = self._events.get()()
                if outcome is not None:
                    yield outcome
        finally:
            self._model.close()
            until = time.monotonic() + _JOIN_TIMEOUT_S
            for thread, _ in self._running.values():
                thread.join(max(0.0, until - time.monotonic()))

    @property
    def _has_room(self) -> bool:
        reading = sum(backend.is_reading for _, backend in self._running.values())
        return len(self._running) < self._max_items and reading < self._max_readers

    def _start(self, rest: Iterator[Item], work: Callable[[SharedBackend, Item], Made]) -> bool:
        """Start work on the next item; return False if there is none."""
        for item in rest:
            self._count_time()
            number = self._started = self._started + 1
            backend = SharedBackend(self._model.client(number), self._frames, self._events.put)
            thread = threading.Thread(
                target=self._work,
                args=(number, item, work, backend, self._share_s),
                name=f"video {number}",
                daemon=True,
            )
            self._running[number] = thread, backend
            thread.start()
            return True
        return False

    def _work(
        self,
        number: int,
        item: Item,
        work: Callable[[SharedBackend, Item], Made],
        backend: SharedBackend,
        begin_s: float,
    ) -> None:
        """Work on an item, in its thread."""
        result: Made | BaseException
        try:
            result = work(backend, item)
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised or yielded in the other thread
            result = error
        self._events.put(lambda: self._finish(number, item, result, begin_s))

    def _finish(
        self, number: int, item: Item, result: Made | BaseException, begin_s: float
    ) -> Outcome[Item, Made]:
        self._count_time()
        del self._running[number]
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        return Outcome(item, result, self._share_s - begin_s)

    def _count_time(self) -> None:
        now = time.monotonic()
        if self._running:
            self._share_s += (now - self._counted_at) / len(self._running)
        self._counted_at = now
