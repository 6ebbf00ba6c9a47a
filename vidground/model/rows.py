"""Removing rows from a batch: which rows remain, and moving them to the front in place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from torch import Tensor


def remaining_rows(count: int, removed: Collection[int]) -> list[int]:
    """Return the old index of every row that remains, in the new order.

    The last row takes the place of a removed one, so that few rows are copied.

    Args:
        count: number of rows before the removal.
        removed: indices of rows, each in [0, count).
    """
    rows = list(range(count))
    for row in sorted(removed, reverse=True):
        rows[row] = rows[-1]
        rows.pop()
    return rows


def moved_rows(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (new index, old index) of each row that `remaining_rows` moves."""
    return ((new, old) for new, old in enumerate(rows) if new != old)


def keep_rows(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Move rows to the front of a tensor, in place.

    Args:
        values: (B, ...).
        rows: result of `remaining_rows`.

    Returns:
        A view of the first rows, (len(rows), ...).
    """
    for new, old in moved_rows(rows):
        values[new] = values[old]
    return values[: len(rows)]
