"""Cues: events as viewers see them, in whole milliseconds, sorted by time, with plain text.

`to_cues` rounds, cleans and sorts; `CueSettings` say how `vidground.results.cue_shaping` turns
them into subtitles. Knows no file format.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from vidground.errors import InputError
from vidground.language.safe_text import plain_text
from vidground.results.types import Event

NO_TEXT = "…"
"""Shown for an event without visible text; players drop a cue that has none."""

Overlap = Literal["keep", "trim", "merge"]
Style = Literal["plain", "netflix"]

_SHORTEST_MAXIMUM_S = 0.1

# The public timed text style guide of Netflix, general requirements: 42 characters and 2 lines,
# five sixths of a second to 7 seconds, 2 frames between subtitles, one subtitle at a time.
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "plain": {"overlap": "keep"},
    "netflix": {
        "max_line_width": 42,
        "max_line_count": 2,
        "min_duration_s": 5 / 6,
        "max_duration_s": 7.0,
        "overlap": "trim",
    },
}
_GAP_FRAMES = {"plain": 0, "netflix": 2}


@dataclass(frozen=True, slots=True)
class Cue:
    """A text shown for a while.

    Attributes:
        start_ms: in milliseconds, 0 or above.
        end_ms: in milliseconds, after `start_ms`; the text is gone by then.
        text: plain text; "\\n" breaks lines.
        score: of the event, in [0, 1]; None if unknown.
    """

    start_ms: int
    end_ms: int
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class CueSettings:
    """How subtitles (srt, vtt, ass, ttml) are shaped; None leaves a value to the style.

    Except by overlap="trim" and the gap of style="netflix", no event's span is shortened, and no
    event is ever lost: where there is no room, a cue is shorter than `min_duration_s`, or the gap
    is left out.

    Attributes:
        max_line_width: characters per line, at least 1. Lines break between words; only a word
            wider than a line is broken.
        max_line_count: lines per cue, at least 1; needs `max_line_width`. Longer text continues
            in further cues, which share the event's span in proportion to their text. (A span of
            fewer milliseconds than parts gets fewer parts.)
        min_duration_s: in seconds, above 0. A shorter event is extended, at most to the next
            event's start or the video's end, so that no overlap is created. Applies before
            anything is split.
        max_duration_s: in seconds, at least 0.1 and not below `min_duration_s`. A longer cue
            becomes equal consecutive cues that repeat the text.
        overlap: what happens to events that overlap; applies first. "keep": each stays a cue of
            its own. "trim": a cue ends where the next begins, and events that begin together
            become one cue. "merge": where events overlap, one cue shows the texts of all, one per
            line, so that every text is shown for its whole span.
        style: "plain" applies only the values given, and keeps overlaps. "netflix" fills in 42
            characters, 2 lines, 5/6 to 7 seconds and "trim", and ends a cue 2 frames before the
            next one.

    Raises:
        InputError: a value is out of its range.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    overlap: Overlap | None = None
    style: Style = "plain"

    def __post_init__(self) -> None:
        _check_name("style", self.style, get_args(Style))
        if self.overlap is not None:
            _check_name("overlap", self.overlap, get_args(Overlap))
        values = self._values()
        for name in ("max_line_width", "max_line_count"):
            count = values[name]
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}; it must be at least 1")
        if values["max_line_count"] is not None and values["max_line_width"] is None:
            raise InputError("max_line_count needs max_line_width: without it a cue is one line")
        shortest, longest = values["min_duration_s"], values["max_duration_s"]
        if shortest is not None and not 0 < shortest < math.inf:
            raise InputError(f"min_duration_s is {shortest}; it must be above 0 seconds")
        if (
            longest is not None
            and not max(_SHORTEST_MAXIMUM_S, shortest or 0) <= longest < math.inf
        ):
            raise InputError(
                f"max_duration_s is {longest}; it must be at least {_SHORTEST_MAXIMUM_S} seconds "
                f"and not below min_duration_s ({shortest})"
            )

    @property
    def gap_frames(self) -> int:
        """Number of frames of the video left free before the next cue."""
        return _GAP_FRAMES[self.style]

    def resolved(self) -> "CueSettings":
        """Return these settings with every None replaced by the style's value."""
        return replace(self, **self._values())

    def _values(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        preset = _STYLES[self.style]
        return {n: preset.get(n) if value is None else value for n, value in given.items()}


def to_cues(events: Iterable[Event]) -> list[Cue]:
    """Return one cue per event, sorted by (start, end); times are rounded once, to milliseconds.

    An event that rounds to nothing lasts 1 ms. Events with equal times keep their order.
    """
    cues = []
    for event in events:
        start_ms = round(event.start_s * 1000)
        end_ms = max(round(event.end_s * 1000), start_ms + 1)
        cues.append(Cue(start_ms, end_ms, plain_text(event.text), event.score))
    return by_time(cues)


def by_time(cues: Iterable[Cue]) -> list[Cue]:
    """Return the cues sorted by (start, end); those with equal times keep their order."""
    return sorted(cues, key=lambda cue: (cue.start_ms, cue.end_ms))


def clock(milliseconds: int, point: str) -> str:
    """Return a time as HH:MM:SS, `point`, mmm; from 100 h on, hours take more than two digits."""
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{fraction:03d}"


def _check_name(option: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{option} is {value!r}; it must be one of {', '.join(known)}")


UNSHAPED = CueSettings()
