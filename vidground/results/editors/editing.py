"""A video and its events in whole frames, at a frame rate that editing programs have.

Editing programs know eight frame rates, exact as rationals; a result knows a measured average.
Times are presentation times, 0 at the file's start, so that frame n of a constant rate begins at
n / rate. Knows no file format.
"""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote_from_bytes

from vidground.errors import FormatError
from vidground.language.safe_text import plain_text
from vidground.results.cues import NO_TEXT
from vidground.results.types import Event
from vidground.video.info import VideoInfo
from vidground.video.timecode import (
    DROP_FRAME_RATES,
    frames_per_day,
    is_drop_frame,
    to_frame_number,
    to_timecode,
)

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
"""Frames per second that editing programs work at, increasing."""

_UNKNOWN_RATE = Fraction(25)
# 23.976 and 24 are a thousandth apart; a rate rounded to two places is closer to its own.
_TOLERANCE = Fraction(2, 10_000)


@dataclass(frozen=True, slots=True)
class Span:
    """An event in frames of its video.

    Attributes:
        first: its first frame, counted from 0 at the start of the video.
        end: the frame after its last, above `first`.
        text: its text as one plain line, never empty.
        event: as it was found, with times in seconds.
    """

    first: int
    end: int
    text: str
    event: Event

    @property
    def frames(self) -> int:
        """Its length in frames, at least 1."""
        return self.end - self.first

    @property
    def note(self) -> str:
        """What an editing program may show beside the text: the score; "" if it is unknown."""
        return "" if self.event.score is None else f"score {self.event.score:.3f}"


@dataclass(frozen=True, slots=True)
class Edit:
    """A video with its events as an editing program wants them.

    Attributes:
        name: of the file, as plain text.
        url: of the file, file://…; a relative path starts at the current folder.
        rate: one of `EDITOR_RATES`.
        frames: length of the video at that rate, at least 1.
        start: source timecode of the first frame, as its number of frames from 00:00:00:00; 0 if
            the file has no timecode.
        drop_frame: whether timecode is written in drop-frame form: as in the file, or at 29.97 and
            59.94 if the file has none.
        width: in pixels.
        height: in pixels.
        spans: sorted by (first, end).
        sound_tracks: None if unknown; see `VideoInfo` for this and the next two.
        sound_channels: None if unknown.
        sound_rate: None if unknown.
    """

    name: str
    url: str
    rate: Fraction
    frames: int
    start: int
    drop_frame: bool
    width: int
    height: int
    spans: tuple[Span, ...]
    sound_tracks: int | None = None
    sound_channels: int | None = None
    sound_rate: int | None = None

    def timecode(self, frame: int) -> str:
        """Return a frame number, counted from 00:00:00:00, as timecode; it wraps after a day."""
        return to_timecode(frame, self.rate, drop_frame=self.drop_frame)

    def require_within_a_day(self, format: str, *, start: int = 0, lengths: bool = False) -> None:
        """Raise FormatError if timecode cannot express the events because they pass 24 hours.

        Args:
            format: for the message.
            start: frames that precede the video on the timeline of the format.
            lengths: whether the format places the events one after the other.
        """
        limit = frames_per_day(self.rate, drop_frame=self.drop_frame)
        last = start + max((span.end for span in self.spans), default=0)
        total = sum(span.frames for span in self.spans) if lengths else 0
        if max(last, total) > limit:
            what = "an event ends" if last > limit else "the events together end"
            frames = last if last > limit else total
            raise FormatError(
                f"{format}: {what} at {float(frames / self.rate):.3f} s, and its timecode at 24 "
                "hours; use otio or fcpxml"
            )


def to_edit(events: Iterable[Event], video: VideoInfo) -> Edit:
    """Return the events in frames of `editor_rate(video)`; each time is rounded once.

    An event that rounds to nothing lasts one frame. Events with equal times keep their order.

    Raises:
        FormatError: the video's timecode is not one.
    """
    rate = editor_rate(video)
    spans = []
    for event in events:
        first = to_frames(event.start_s, rate)
        end = max(to_frames(event.end_s, rate), first + 1)
        spans.append(Span(first, end, plain_text(event.text) or NO_TEXT, event))
    timecode = video.timecode
    drop_frame = rate in DROP_FRAME_RATES and (timecode is None or is_drop_frame(timecode))
    return Edit(
        name=plain_text(Path(video.path).name) or NO_TEXT,
        url=_file_url(video.path),
        rate=rate,
        frames=max(to_frames(video.duration_s, rate), 1),
        start=0 if timecode is None else _start(timecode, video.fps, rate),
        drop_frame=drop_frame,
        width=video.width,
        height=video.height,
        spans=tuple(sorted(spans, key=lambda span: (span.first, span.end))),
        sound_tracks=video.sound_tracks,
        sound_channels=video.sound_channels,
        sound_rate=video.sound_rate,
    )


def editor_rate(video: VideoInfo) -> Fraction:
    """Return the one of `EDITOR_RATES` to edit a video at.

    That is the video's own rate if it is one of them (29.97 is 30000/1001); else the lowest one
    that is a whole multiple of it (12 becomes 24), else the highest that divides it (120 becomes
    60), else the next higher one, at most 60. A single frame is edited at 25.
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
    """Return the frame that begins nearest to a time in seconds, half to even, rounded once."""
    return round(Fraction(float(seconds)) * rate)


def _start(timecode: str, fps: float | None, rate: Fraction) -> int:
    """Return a source timecode as a number of frames at the rate to edit at.

    Timecode counts in the file's own rate. Where that is another one, the whole seconds stay and
    the frames are scaled: frame 6 of 12 is frame 12 of 24.
    """
    try:
        if fps is not None and math.isfinite(fps) and round(fps) not in (0, round(rate)):
            seconds, mark, frames = re.split(r"([:;])(?=\d+$)", timecode)
            scaled = min(round(int(frames) * round(rate) / round(fps)), round(rate) - 1)
            return to_frame_number(f"{seconds}{mark}{scaled:02d}", rate)
        return to_frame_number(timecode, rate)
    except ValueError as error:
        raise FormatError(
            f"the video's timecode is {timecode!r}; it must be HH:MM:SS:FF or HH:MM:SS;FF"
        ) from error


def _file_url(path: str) -> str:
    absolute = os.path.abspath(path)  # noqa: PTH100 - resolve would follow links
    try:
        content = os.fsencode(absolute)
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no file has this name
        content = absolute.encode(errors="replace")
    return "file://" + quote_from_bytes(content)


def _is_whole(ratio: Fraction) -> bool:
    return round(ratio) >= 1 and abs(ratio - round(ratio)) <= _TOLERANCE * ratio
