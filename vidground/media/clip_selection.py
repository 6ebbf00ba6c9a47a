"""Which events of a result are cut out, from when to when, and what the clips are called.

Names are made of captions, which are untrusted: they hold letters, digits, points, dashes and
underscores only, never begin with a dash or a point, and are short. Knows no video.
"""

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from vidground.errors import InputError
from vidground.results.cues import clock
from vidground.results.documents import Result
from vidground.results.safe_text import plain_text
from vidground.results.types import Event, Groundings

_STEM_BYTES = 80
_CAPTION_BYTES = 80
_KEPT = "LNM"
"""Letters, numbers, and the marks that some scripts write vowels with."""


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """Which events are taken, and how much around them.

    padding_s: seconds added before and after. min_score: least score, in [0, 1]; events without
    one are left out. limit: so many at most, those of the highest scores. query: only the moments
    of the query with this text, in any case.
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
    """Return the events to cut out, by time, with padding.

    duration_s: the video's; padding ends there and at 0. Of equal scores the earlier event comes
    first, and events without a score come last.

    Raises InputError if no query has that text, or a least score is asked of events without any.
    """
    events = list(result.events if settings.query is None else _of_query(result, settings.query))
    least = settings.min_score
    if least is not None:
        scored = [event for event in events if event.score is not None]
        if events and not scored:
            raise InputError("its events have no scores to compare with min_score; leave that out")
        events = [event for event in scored if (event.score or 0.0) >= least]
    events.sort(key=lambda event: -1.0 if event.score is None else event.score, reverse=True)
    chosen = sorted(events[: settings.limit], key=lambda event: (event.start_s, event.end_s))
    return [_padded(event, settings.padding_s, duration_s) for event in chosen]


def file_stem(name: str) -> str:
    """Return the name of a video, without its suffix, as one for files made of it."""
    return _plain(name, _STEM_BYTES) or "video"


def clip_name(stem: str, number: int, event: Event, suffix: str) -> str:
    """Return the name of a clip, such as match_001_00-01-23.400_a-red-circle.mp4.

    stem: from `file_stem`. number: from 1. suffix: with its point.
    """
    start = clock(round(event.start_s * 1000), ".").replace(":", "-")
    caption = _plain(event.text.lower(), _CAPTION_BYTES)
    return "_".join(filter(None, [stem, f"{number:03d}", start, caption])) + suffix


def _of_query(result: Result, query: str) -> Iterable[Event]:
    if not isinstance(result, Groundings):
        raise InputError("the result holds captions and no queries; leave the query out")
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
    if start_s < duration_s:  # else it is no moment of this video, which the cut will tell
        end_s = min(end_s, duration_s)
    return Event(start_s, end_s, event.text, event.score)


def _plain(text: str, most_bytes: int) -> str:
    """Return `text` with a dash for each run of what is no letter or digit, at most so long."""
    text = unicodedata.normalize("NFC", plain_text(text))
    kept = "".join(
        char if unicodedata.category(char)[0] in _KEPT or char == "_" else "-" for char in text
    )
    words = "-".join(filter(None, kept.split("-")))
    return words.encode()[:most_bytes].decode(errors="ignore").strip("-_")
