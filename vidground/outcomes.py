"""Work on one item of many: its result or the error that stopped it, and how long it took."""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Made]):
    """What became of an item.

    Attributes:
        item: the object that was given.
        result: what was made of it, or the exception that stopped the work on it.
        elapsed_s: seconds of work, without waiting. While n items are worked on at the same time,
            each is charged 1/n of that time, so that the shares add up to the duration of the run.
    """

    item: Item
    result: Made | Exception
    elapsed_s: float


def one_by_one(
    items: Iterable[Item], work: Callable[[Item], Made]
) -> Generator[Outcome[Item, Made], None, None]:
    """Work on one item after the other, in the thread that iterates.

    No thread timing decides which prompts share a batch, so the same operations run in the same
    order and give the same bits each time on one machine.

    Args:
        items: taken one at a time, each when the outcome of the one before was consumed.
        work: makes the result of an item. Its exceptions become outcomes.
    """
    for item in items:
        begin = time.monotonic()
        result: Made | Exception
        try:
            result = work(item)
        except Exception as error:  # noqa: BLE001 - the consumer reports or raises it
            result = error
        yield Outcome(item, result, time.monotonic() - begin)
