"""Editing: a video and its events in whole frames, at a rate that editing programs have.

Editors know eight frame rates, exact as rationals; a result knows a measured average. Times are
presentation times, 0 at the first frame, so that frame n of a constant rate begins at n / rate.
Knows no file format.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote_from_bytes

from vidground.results.cues import NO_TEXT
from vidground.results.safe_text import plain_text
from vidground.results.types import Event
from vidground.video.info import VideoInfo

EDITOR_RATES: tuple[Fraction, ...] = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
"""Frames per second that editing programs work at, rising."""

_DROP_FRAME_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))
_UNKNOWN_RATE = Fraction(25)
# 23.976 and 24 are a thousandth apart; a rate rounded to two places is closer to its own.
_TOLERANCE = Fraction(2, 10_000)


@dataclass(frozen=True, slots=True)
class Span:
    """An event on the frames [first, end) of its video, end > first; `text` is one plain line."""

    first: int
    end: int
    text: str
    event: Event

    @property
    def frames(self) -> int:
        """How many frames it lasts, at least 1."""
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Edit:
    """A video with its events as an editor wants it.

    name: the file's name as plain text. url: where the file lies, file://…; a relative path
    starts at the current folder. rate: one of `EDITOR_RATES`. frames: the video's length at that
    rate, at least 1. width, height: in pixels. spans: by (first, end).
    """

    name: str
    url: str
    rate: Fraction
    frames: int
    width: int
    height: int
    spans: tuple[Span, ...]

    @property
    def drop_frame(self) -> bool:
        """Whether timecode leaves out numbers to keep up with the clock: 29.97 and 59.94."""
        return self.rate in _DROP_FRAME_RATES


def to_edit(events: Iterable[Event], video: VideoInfo) -> Edit:
    """Return the events in frames of `editor_rate(video)`; each time is rounded once.

    An event that rounds to nothing lasts one frame. Events with equal times keep their order.
    """
    rate = editor_rate(video)
    spans = []
    for event in events:
        first = to_frames(event.start_s, rate)
        end = max(to_frames(event.end_s, rate), first + 1)
        spans.append(Span(first, end, plain_text(event.text) or NO_TEXT, event))
    return Edit(
        name=plain_text(Path(video.path).name) or NO_TEXT,
        url=_file_url(video.path),
        rate=rate,
        frames=max(to_frames(video.duration_s, rate), 1),
        width=video.width,
        height=video.height,
        spans=tuple(sorted(spans, key=lambda span: (span.first, span.end))),
    )


def editor_rate(video: VideoInfo) -> Fraction:
    """Return the one of `EDITOR_RATES` to edit the video at.

    Its own if it has one of them (29.97 is 30000/1001). For another rate the lowest that is a
    whole multiple (12 becomes 24), else the highest that divides it (120 becomes 60), else the
    next higher one, 60 at most. 25 for a single frame.
    """
    fps = video.fps
    if fps is None or not 0 < fps < math.inf:
        return _UNKNOWN_RATE
    exact = Fraction(fps)
    multiples = [rate for rate in EDITOR_RATES if _is_whole(rate / exact)]
    divisors = [rate for rate in EDITOR_RATES if _is_whole(exact / rate)]
    own = [rate for rate in divisors if rate in multiples]
    higher = [rate for rate in EDITOR_RATES if rate > exact]
    return (own + multiples + divisors[::-1] + higher + [EDITOR_RATES[-1]])[0]


def to_frames(seconds: float, rate: Fraction) -> int:
    """Return the frame that begins nearest to a time, half to even; no rounding in between."""
    return round(Fraction(float(seconds)) * rate)


def _file_url(path: str) -> str:
    absolute = os.path.abspath(path)  # noqa: PTH100 - resolve would follow links
    try:
        content = os.fsencode(absolute)
    except UnicodeEncodeError:  # a surrogate that stands for no byte, so no file has this name
        content = absolute.encode(errors="replace")
    return "file://" + quote_from_bytes(content)


def _is_whole(ratio: Fraction) -> bool:
    return round(ratio) >= 1 and abs(ratio - round(ratio)) <= _TOLERANCE * ratio
