"""Write numbers and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

NO_VALUE = "-"


def percent(value: float | None) -> str:
    """Return a value times 100 with one decimal; "-" for None."""
    return NO_VALUE if value is None else f"{100 * value:.1f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; header and rows have the same number of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
