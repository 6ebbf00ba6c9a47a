"""Choose which events of a result to cut out, from when to when, and name the clips.

Names are built from captions, which are untrusted: they consist of letters, digits, dots, dashes
and underscores, never begin with a dash or a dot, and are short. Reads no video.
"""

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from vidground.errors import InputError
from vidground.language.safe_text import plain_text
from vidground.results.cues import clock
from vidground.results.documents import Result
from vidground.results.types import Event, Groundings

_STEM_BYTES = 80
_CAPTION_BYTES = 80
_NAME_CATEGORIES = "LNM"
"""Unicode categories: letters, numbers, and the marks that some scripts write vowels with."""


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """Which events to cut out, and how much around them.

    Attributes:
        padding_s: seconds added before and after each event, 0 or more.
        min_score: lowest score, in [0, 1]; events without a score are left out.
        limit: maximum number of events; those with the highest scores are kept.
        query: take only the moments of the query with this text; case is ignored.

    Raises:
        InputError: a value is out of range.
    """

    padding_s: float = 0.0
    min_score: float | None = None
    limit: int | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.padding_s < math.inf:
            raise InputError(f"padding is {self.padding_s}; it must be 0 seconds or more")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise InputError(f"min_score is {self.min_score}; it must be in [0, 1]")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; it must be at least 1")


def choose_events(result: Result, settings: ChoiceSettings, *, duration_s: float) -> list[Event]:
    """Return the events to cut out, sorted by time, with padding.

    Args:
        result: captions, or moments of queries.
        settings: which events, and the padding.
        duration_s: length of the video in seconds; padding is cut off there and at 0.

    Raises:
        InputError: no query has that text, or `min_score` is set and no event has a score.
    """
    events = list(result.events if settings.query is None else _of_query(result, settings.query))
    if settings.min_score is not None:
        scored = [event for event in events if event.score is not None]
        if events and not scored:
            raise InputError("the result's events have no scores; leave out min_score")
        events = [event for event in scored if (event.score or 0.0) >= settings.min_score]
    # A stable sort: of equal scores the earlier event comes first.
    events.sort(key=lambda event: -1.0 if event.score is None else event.score, reverse=True)
    chosen = sorted(events[: settings.limit], key=lambda event: (event.start_s, event.end_s))
    return [_padded(event, settings.padding_s, duration_s) for event in chosen]


def file_stem(name: str) -> str:
    """Turn a video's name, without its suffix, into a safe start for the names of its clips."""
    return _safe_name(name, _STEM_BYTES) or "video"


def clip_name(stem: str, number: int, event: Event, suffix: str) -> str:
    """Return the name of a clip, such as match_001_00-01-23.400_a-red-circle.mp4.

    Args:
        stem: from `file_stem`.
        number: of the clip, counted from 1.
        event: what the clip shows.
        suffix: of the file, with its dot.
    """
    start = clock(round(event.start_s * 1000), ".").replace(":", "-")
    caption = _safe_name(event.text.lower(), _CAPTION_BYTES)
    return "_".join(filter(None, [stem, f"{number:03d}", start, caption])) + suffix


def _of_query(result: Result, query: str) -> Iterable[Event]:
    if not isinstance(result, Groundings):
        raise InputError("the result holds captions, not queries; leave out the query")
    wanted = _folded(query)
    asked = [answer.query for answer in result.results]
    if wanted not in map(_folded, asked):
        known = "; ".join(plain_text(text) for text in asked)
        raise InputError(f"query {plain_text(query)!r} was not asked; choose from: {known}")
    return [event for event in result.events if _folded(event.text) == wanted]


def _folded(text: str) -> str:
    return plain_text(text).casefold()


def _padded(event: Event, padding_s: float, duration_s: float) -> Event:
    start_s, end_s = max(event.start_s - padding_s, 0.0), event.end_s + padding_s
    if start_s < duration_s:  # otherwise cutting reports that it lies behind the video's end
        end_s = min(end_s, duration_s)
    return Event(start_s, end_s, event.text, event.score)


def _safe_name(text: str, max_bytes: int) -> str:
    """Replace each run of other characters than letters and digits by a dash, and shorten."""
    text = unicodedata.normalize("NFC", plain_text(text))
    replaced = "".join(
        char if unicodedata.category(char)[0] in _NAME_CATEGORIES or char == "_" else "-"
        for char in text
    )
    words = "-".join(filter(None, replaced.split("-")))
    return words.encode()[:max_bytes].decode(errors="ignore").strip("-_")
