"""What a person annotated in a video with another program, and how names of videos are compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vidground.errors import FormatError, InputError
from vidground.language.safe_text import plain_text
from vidground.results.types import Event

# Label Studio puts eight hexadecimal digits before the name of an uploaded file.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """The events that a file of an annotation tool holds for one video.

    Attributes:
        video: name of the video's file, without folders; None if the file does not name it.
        events: by (start, end), without scores.
        resolution_s: the tool rounds times to multiples of it, in seconds.
    """

    video: str | None
    events: tuple[Event, ...]
    resolution_s: float

    def is_about(self, path: str) -> bool:
        """Whether this is the video at `path`; suffixes may differ, as of a copy for a browser."""
        return self.video is None or _stem(self.video) == _stem(path)


def file_name(address: str) -> str:
    """Return the name of the file that a path or a URL leads to, without an upload's prefix."""
    return _UPLOAD_PREFIX.sub("", PurePosixPath(address.replace("\\", "/")).name)


def event(start_s: float, end_s: float, text: str, where: str) -> Event:
    """Return an annotated event.

    Raises:
        FormatError: the times are not finite, or not 0 <= start < end; `where` names the event.
    """
    try:
        return Event(start_s, end_s, plain_text(text))
    except InputError as error:
        raise FormatError(f"{where}: {error}; correct the times in the tool") from error


def by_time(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the events by (start, end)."""
    return tuple(sorted(events, key=lambda item: (item.start_s, item.end_s)))


def parse_json(text: str) -> Any:
    """Return the JSON value of a text.

    Raises:
        FormatError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not JSON: {error}") from error


def as_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value`, which must be a JSON object.

    Raises:
        FormatError: it is something else; `where` names it.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{where} is {type(value).__name__}; it must be an object")
    return value


def as_list(value: Any, where: str) -> list[Any]:
    """Return `value`, which must be a JSON list.

    Raises:
        FormatError: it is something else; `where` names it.
    """
    if not isinstance(value, list):
        raise FormatError(f"{where} is {type(value).__name__}; it must be a list")
    return value


def as_seconds(value: Any, where: str) -> float:
    """Return `value`, which must be a number, as a float.

    Raises:
        FormatError: it is something else; `where` names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
        raise FormatError(f"{where} is {value!r:.40}; it must be a number")
    return float(value)


def _stem(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).stem.casefold()
