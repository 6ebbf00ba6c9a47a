"""Cues: events as a reader sees them, in whole milliseconds, by time, with plain text.

`to_cues` rounds, cleans and sorts; `shape_cues` wraps and splits for subtitles. Knows no file
format.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from vidground.errors import InputError
from vidground.plaintext import plain_text
from vidground.types import Event

NO_TEXT = "…"
"""What a subtitle shows for an event without visible text; readers drop a cue without any."""

_SHORTEST_MAXIMUM_S = 0.1


@dataclass(frozen=True, slots=True)
class Cue:
    """A line of text shown during [start_ms, end_ms), end_ms > start_ms. "\\n" breaks lines."""

    start_ms: int
    end_ms: int
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class CueSettings:
    """How subtitles (SRT, WebVTT) are shaped; None leaves things as they are.

    max_line_width: characters per line, at least 1. Lines break between words; only a word wider
        than a line is broken.
    max_line_count: lines per cue, at least 1; needs `max_line_width`. Longer text goes on in
        consecutive cues that share the event's span in proportion to their text. (A span of
        fewer milliseconds than parts gets fewer parts.)
    min_duration_s: an event shorter than this ends later: at most at the next event's start or
        the video's end, so that no overlap is made. Applies before anything is split.
    max_duration_s: a longer cue becomes equal consecutive cues that repeat the text; at least
        0.1 seconds and not below `min_duration_s`.

    No event's span is shortened, and none is lost.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}; it must be at least 1")
        if self.max_line_count is not None and self.max_line_width is None:
            raise InputError("max_line_count needs max_line_width: without it a cue is one line")
        shortest, longest = self.min_duration_s, self.max_duration_s
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


UNSHAPED = CueSettings()


def to_cues(events: Iterable[Event]) -> list[Cue]:
    """Return one cue per event, by (start, end); each time is rounded once, to milliseconds.

    An event that rounds to nothing lasts 1 ms. Events with equal times keep their order.
    """
    cues = []
    for event in events:
        start_ms = round(event.start_s * 1000)
        end_ms = max(round(event.end_s * 1000), start_ms + 1)
        cues.append(Cue(start_ms, end_ms, plain_text(event.text), event.score))
    return _by_time(cues)


def shape_cues(cues: list[Cue], settings: CueSettings, duration_s: float) -> list[Cue]:
    """Return cues, given by time, wrapped, split and extended as `settings` say, by time.

    duration_s: the video's; no cue is extended past it. Text that is empty becomes `NO_TEXT`.
    """
    if cues and settings.min_duration_s is not None:
        cues = _extend(cues, round(settings.min_duration_s * 1000), round(duration_s * 1000))
    shaped: list[Cue] = []
    for cue in cues:
        for part in _split_text(cue, settings.max_line_width, settings.max_line_count):
            shaped.extend(_split_span(part, settings.max_duration_s))
    return _by_time(shaped)


def clock(milliseconds: int, point: str) -> str:
    """Return HH:MM:SS, `point`, mmm; hours take more than two digits from 100 h on."""
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{fraction:03d}"


def _by_time(cues: list[Cue]) -> list[Cue]:
    return sorted(cues, key=lambda cue: (cue.start_ms, cue.end_ms))


def _extend(cues: list[Cue], shortest_ms: int, duration_ms: int) -> list[Cue]:
    limits = [min(cue.start_ms, duration_ms) for cue in cues[1:]] + [duration_ms]
    return [
        Cue(
            cue.start_ms,
            max(cue.end_ms, min(cue.start_ms + shortest_ms, limit)),
            cue.text,
            cue.score,
        )
        for cue, limit in zip(cues, limits, strict=True)
    ]


def _split_text(cue: Cue, width: int | None, count: int | None) -> Iterator[Cue]:
    """Yield consecutive cues of at most `count` lines over the cue's span."""
    lines = _wrap(cue.text or NO_TEXT, width)
    span_ms = cue.end_ms - cue.start_ms
    parts = min(math.ceil(len(lines) / (count or len(lines))), span_ms)
    per_part = math.ceil(len(lines) / parts)
    texts = ["\n".join(lines[i : i + per_part]) for i in range(0, len(lines), per_part)]
    total, done, bounds = sum(map(len, texts)), 0, [cue.start_ms]
    for index, text in enumerate(texts, 1):
        done += len(text)
        bound = cue.start_ms + round(span_ms * done / total)
        # Every part before and after this bound keeps at least 1 ms.
        latest = cue.end_ms - (len(texts) - index)
        bounds.append(min(max(bound, bounds[-1] + 1), latest))
    for (start_ms, end_ms), text in zip(pairwise(bounds), texts, strict=True):
        yield Cue(start_ms, end_ms, text, cue.score)


def _wrap(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    if len(lines) > 1 and lines[-1].isdigit():
        # A last line of digits reads like the next cue's number: a word keeps it company.
        rest, space, word = lines[-2].rpartition(" ")
        if space and len(word) + 1 + len(lines[-1]) <= width:
            lines[-2:] = [rest, f"{word} {lines[-1]}"]
    return lines


def _split_span(cue: Cue, longest_s: float | None) -> Iterator[Cue]:
    """Yield equal consecutive cues, none longer than `longest_s`, with the same text."""
    span_ms = cue.end_ms - cue.start_ms
    parts = 1 if longest_s is None else math.ceil(span_ms / round(longest_s * 1000))
    bounds = [cue.start_ms + span_ms * index // parts for index in range(parts + 1)]
    for start_ms, end_ms in pairwise(bounds):
        yield Cue(start_ms, end_ms, cue.text, cue.score)
