"""What differs between PyAV 18 and 19, the two that vidground runs on."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, Protocol

import av
import av.container
from av.format import Flags

_ANY_TAGS: Final[dict[str, Any]] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""By default, PyAV 18 refuses files with tags that are not UTF-8; 19 has no such option and opens
them all."""


def open_input(path: str, **options: Any) -> av.container.InputContainer:
    """Open a file for reading, whatever the encoding of its title and other tags.

    Args:
        path: of the file.
        options: as `av.open` takes them in both versions.

    Returns:
        The container; bytes of tags that are not UTF-8 are surrogates (PEP 383).
    """
    container: av.container.InputContainer = av.open(path, "r", **_ANY_TAGS, **options)
    return container


def has_format_flag(container: av.container.InputContainer, name: str) -> bool:
    """Return whether a container's format has a flag, by its name in `av.format.Flags`."""
    flag: Any = Flags[name]
    return bool(container.format.flags & flag.value)


class Ratio(Protocol):
    """A `Fraction`, as PyAV 18 returns, or an `av.rational.AVRational`, as 19 does."""

    @property
    def numerator(self) -> int:
        """The part above the line."""

    @property
    def denominator(self) -> int:
        """The part below the line; 0 in 19 for what is undefined."""


def positive_fractions(*ratios: Ratio | None) -> tuple[Fraction, ...]:
    """Return those ratios that are positive, as `positive_fraction` does."""
    return tuple(found for found in map(positive_fraction, ratios) if found is not None)


def positive_fraction(ratio: Ratio | None) -> Fraction | None:
    """Return a rate, time base or aspect ratio of PyAV as a `Fraction`.

    Returns:
        None if the file does not state it, or states one that is zero, negative or undefined.
    """
    if ratio is None or ratio.denominator == 0 or ratio.numerator <= 0:
        return None
    return Fraction(ratio.numerator, ratio.denominator)
