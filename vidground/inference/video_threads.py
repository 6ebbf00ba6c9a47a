"""Several videos in flight at once, each in a thread of its own, around one shared model.

A video's thread decodes, prepares pictures, cuts windows and waits for answers; the model has its
thread (`shared_model`); results are given, and so written, in the thread that asks for them.
Knows nothing of what is asked.
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
from vidground.generation.generation_queue import Generation
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.model_thread import AbandonedError, SharedModel, SharedModelClient
from vidground.outcomes import Item, Made, Outcome
from vidground.settings import DecodingSettings

_PATIENCE_S = 2.0
"""So long are threads waited for whose work is not wanted any more."""


def in_order(
    outcomes: Iterable[Outcome[tuple[int, str | PathLike[str]], Made]],
    on_error: Callable[[str, VidgroundError], None] | None,
) -> Generator[Made, None, None]:
    """What was made of files, which have numbers from 0, in the order of these.

    Args:
        on_error: called with a file that failed, which is then left out, and with the error: an
            InternalError if it was a mistake of the program. Without it the original exception
            is raised.
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
    """Does work on several items at once.

    Args:
        most: items in flight at once. readers: of those, how many read their videos.
    """

    def __init__(self, shared: SharedModel, *, most: int, readers: int) -> None:
        self._shared = shared
        self._most = most
        self._readers = readers
        self._events: SimpleQueue[Callable[[], Outcome[Any, Any] | None]] = SimpleQueue()
        self._flights: dict[int, Flight] = {}
        self._started = 0
        self._share_s, self._counted_at = 0.0, 0.0

    def run(
        self, items: Iterable[Item], work: Callable[[Item, Flight], Made]
    ) -> Generator[Outcome[Item, Made], None, None]:
        """Work on items as there is room; give what came of each as soon as it is known.

        Items are taken, results given and `Flight.tell` heard in the thread that iterates. What
        is in flight when the iteration is ended is abandoned.

        Args:
            work: called in a thread of its own, with what it may ask of the model.
        """
        rest, more = iter(items), True
        try:
            while True:
                while more and self._has_room:
                    more = self._start(rest, work)
                if not self._flights:
                    return
                outcome = self._events.get()()
                if outcome is not None:
                    yield outcome
        finally:
            self._shared.close()
            until = time.monotonic() + _PATIENCE_S
            for flight in self._flights.values():
                flight.thread.join(max(0.0, until - time.monotonic()))

    @property
    def _has_room(self) -> bool:
        reading = sum(flight.reads for flight in self._flights.values())
        return len(self._flights) < self._most and reading < self._readers

    def _start(self, rest: Iterator[Item], work: Callable[[Item, Flight], Made]) -> bool:
        """Start work on the next item; False if there is none."""
        for item in rest:
            self._count_time()
            number = self._started = self._started + 1
            flight = Flight(self._shared.client(number), self._events)
            flight.thread = threading.Thread(
                target=self._fly,
                args=(number, item, work, flight, self._share_s),
                name=f"video {number}",
                daemon=True,
            )
            self._flights[number] = flight
            flight.thread.start()
            return True
        return False

    def _fly(
        self,
        number: int,
        item: Item,
        work: Callable[[Item, Flight], Made],
        flight: Flight,
        begin_s: float,
    ) -> None:
        """Work on an item. Runs in its thread."""
        outcome: Made | BaseException
        try:
            outcome = work(item, flight)
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
            outcome = error
        self._events.put(lambda: self._land(number, item, outcome, begin_s))

    def _land(
        self, number: int, item: Item, outcome: Made | BaseException, begin_s: float
    ) -> Outcome[Item, Made]:
        self._count_time()
        del self._flights[number]
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        return Outcome(item, outcome, self._share_s - begin_s)

    def _count_time(self) -> None:
        now = time.monotonic()
        if self._flights:
            self._share_s += (now - self._counted_at) / len(self._flights)
        self._counted_at = now


class Flight:
    """An item in flight: what its thread may ask of the model, and tell.

    model: encodes frames. reads: whether it is still reading its video.
    """

    thread: threading.Thread

    def __init__(self, model: SharedModelClient, events: SimpleQueue[Callable[[], Any]]) -> None:
        self.model = model
        self.reads = True
        self._events = events

    def generate_each(
        self, prompts: Iterable[PromptInputs], settings: DecodingSettings
    ) -> Iterator[Generation]:
        """See `generation.generate_each`; once the prompts are through, the video is read."""
        return self.model.generate_each(prompts, settings, after_last=self._has_read)

    def tell(self, hear: Callable[[], None]) -> None:
        """Call a function in the thread that iterates over the results."""
        self._events.put(hear)

    def _has_read(self) -> None:
        self.reads = False
        self.tell(lambda: None)  # there may be room for another one
