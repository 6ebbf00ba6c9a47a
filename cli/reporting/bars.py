"""A progress bar on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(unit: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if standard error is a terminal; yield a function that moves it."""
    with tqdm(total=total, unit=unit, file=sys.stderr, disable=True if quiet else None) as shown:

        def show(done: int, _total: int) -> None:
            shown.update(done - shown.n)

        yield show
