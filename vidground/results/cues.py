"""Cues: events as a reader sees them, in whole milliseconds, by time, with plain text.

`to_cues` rounds, cleans and sorts; `CueSettings` say how `vidground.results.cue_shaping` makes
subtitles of them. Knows no file format.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from vidground.errors import InputError
from vidground.results.safe_text import plain_text
from vidground.results.types import Event

NO_TEXT = "…"
"""What a subtitle shows for an event without visible text; readers drop a cue without any."""

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
    """A line of text shown during [start_ms, end_ms), end_ms > start_ms. "\\n" breaks lines."""

    start_ms: int
    end_ms: int
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class CueSettings:
    """How subtitles (srt, vtt, ass, ttml) are shaped; None leaves it to the style.

    max_line_width: characters per line, at least 1. Lines break between words; only a word wider
        than a line is broken.
    max_line_count: lines per cue, at least 1; needs `max_line_width`. Longer text goes on in
        consecutive cues that share the event's span in proportion to their text. (A span of
        fewer milliseconds than parts gets fewer parts.)
    min_duration_s: an event shorter than this ends later: at most at the next event's start or
        the video's end, so that no overlap is made. Applies before anything is split.
    max_duration_s: a longer cue becomes equal consecutive cues that repeat the text; at least
        0.1 seconds and not below `min_duration_s`.
    overlap: what becomes of events that overlap; applies before all else. "keep": each is a cue
        of its own. "trim": a cue ends where the next begins, and what begins together becomes one
        cue. "merge": where events overlap, one cue shows the texts of all, a line each, so that
        every text is shown for all of its span.
    style: "plain" leaves out what is None, and keeps overlaps. "netflix" fills in 42 characters,
        2 lines, 5/6 to 7 seconds, "trim", and ends a cue 2 frames before the next one.

    But for "trim" and that gap no event's span is shortened, and none is ever lost: where there is
    no room, a cue is shorter than `min_duration_s`, or the gap is left out.
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
        """Frames of the video that stay free before the next cue."""
        return _GAP_FRAMES[self.style]

    def resolved(self) -> "CueSettings":
        """Return these settings with what the style says in the place of None."""
        return replace(self, **self._values())

    def _values(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        preset = _STYLES[self.style]
        return {n: preset.get(n) if value is None else value for n, value in given.items()}


def to_cues(events: Iterable[Event]) -> list[Cue]:
    """Return one cue per event, by (start, end); each time is rounded once, to milliseconds.

    An event that rounds to nothing lasts 1 ms. Events with equal times keep their order.
    """
    cues = []
    for event in events:
        start_ms = round(event.start_s * 1000)
        end_ms = max(round(event.end_s * 1000), start_ms + 1)
        cues.append(Cue(start_ms, end_ms, plain_text(event.text), event.score))
    return by_time(cues)


def by_time(cues: Iterable[Cue]) -> list[Cue]:
    """Return the cues by (start, end); those with equal times keep their order."""
    return sorted(cues, key=lambda cue: (cue.start_ms, cue.end_ms))


def clock(milliseconds: int, point: str) -> str:
    """Return HH:MM:SS, `point`, mmm; hours take more than two digits from 100 h on."""
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{fraction:03d}"


def _check_name(option: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{option} is {value!r}; it must be one of {', '.join(known)}")


UNSHAPED = CueSettings()
