"""A video's timeline, and its relation to the timestamps in the file, for programs that seek in it.

Runs no program; decodes one frame.
"""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidground.video.container_facts import StreamFacts
from vidground.video.frame_sampler import FrameSampler
from vidground.video.info import VideoInfo
from vidground.video.orientation import Orientation
from vidground.video.packets import Packets
from vidground.video.timecode import (
    DROP_FRAME_RATES,
    is_drop_frame,
    to_frame_number,
    to_timecode,
)
from vidground.video.timeline import Timeline
from vidground.video.video_file import VideoFile

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MATROSKA = b"\x1a\x45\xdf\xa3"


class TimedVideo:
    """A video file with its packets listed. Times are in seconds from the start of the file, as
    players count it.

    Raises:
        VideoError: see `FrameSampler`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._sampler = _OpenSampler(path, fps=1.0)

    @property
    def info(self) -> VideoInfo:
        """Measured facts of the file."""
        return self._sampler.info

    @property
    def shown_s(self) -> float:
        """From the first frame to the end of the last, in seconds."""
        return float(self.timeline.shown)

    @property
    def timeline(self) -> Timeline:
        """Times of the frames."""
        return self._sampler.timeline

    @property
    def packets(self) -> Packets:
        """Packets of the video stream."""
        return self._sampler.packets

    @property
    def orientation(self) -> Orientation:
        """How a player turns and mirrors the first frame."""
        return next(self._sampler.frames()).frame.orientation

    @property
    def bits(self) -> int:
        """Bits per sample of the picture, 8 for most videos."""
        return self._sampler.stream_facts.bits

    @property
    def sound(self) -> tuple[str, ...]:
        """ffmpeg's specifiers of the sound tracks, without those that have no decoder."""
        facts = self._sampler.stream_facts
        if not facts.unknown_sound:
            return ("a?",)
        tracks = range(facts.container.sound_tracks)
        return tuple(f"a:{track}" for track in tracks if track not in facts.unknown_sound)

    def timecode_at(self, seconds: float) -> str | None:
        """Return the source timecode at a time; None without one or at a variable frame rate."""
        start, rate = self.info.timecode, self.timeline.rate
        if start is None or rate is None:
            return None
        drop_frame = is_drop_frame(start) and rate in DROP_FRAME_RATES
        number = to_frame_number(start, rate) + round(seconds * rate)
        return to_timecode(number, rate, drop_frame=drop_frame)

    @property
    def left_out(self) -> str | None:
        """A warning about tracks that `sound` leaves out; None if there are none."""
        return _left_out(self._sampler.stream_facts)

    @property
    def is_timed(self) -> bool:
        """Whether the file's timestamps can be trusted; if not, frames can only be counted."""
        return self.timeline.note is None and self.timeline.packets is not None

    @property
    def has_index(self) -> bool:
        """Whether the file is MP4 or Matroska, where seeking never lands too late."""
        with Path(self.info.path).open("rb") as file:
            head = file.read(8)
        return head[4:] in _MP4_BOXES or head.startswith(_MATROSKA)

    @property
    def origin_s(self) -> float | None:
        """Timestamp of the file's start, in seconds; None if `is_timed` is false."""
        return self.absolute_s(0.0) if self.is_timed else None

    @property
    def step(self) -> Fraction:
        """Unit of the frames' times in seconds: the frame duration, or one tick of the file."""
        rate = self.timeline.rate
        return 1 / rate if rate is not None else self.timeline.time_base

    def absolute_s(self, seconds: float) -> float:
        """Convert a time to a timestamp in the file, in seconds; needs `is_timed`."""
        assert self.timeline.packets is not None
        first = int(self.packets.times[self.timeline.packets[0]])
        start = first - int(self.timeline.ticks[0])
        return start * float(self.timeline.time_base) + seconds

    def key_before_s(self, frame: int) -> float | None:
        """Return the time of the last key frame up to `frame`; None if frames are not timed."""
        if not self.is_timed or self.timeline.packets is None:
            return None
        keys = np.flatnonzero(self.packets.keys[self.timeline.packets[: frame + 1]])
        return self._bound_s(int(keys[-1])) if len(keys) else None

    def between_s(self, frame: int, margin_s: float) -> float:
        """Return a time before `frame` and after the frame before it.

        Args:
            frame: from 0 to the number of frames.
            margin_s: how long before `frame` at most, in seconds.
        """
        time_s = self._bound_s(frame)
        if frame == 0:
            return time_s - margin_s
        return time_s - min(margin_s, (time_s - self._bound_s(frame - 1)) / 2)

    def _bound_s(self, frame: int) -> float:
        ticks = self.timeline.ticks
        tick = int(ticks[frame]) if frame < len(ticks) else self.timeline.end_tick
        return tick * float(self.timeline.time_base)


def left_out_of(path: str | os.PathLike[str]) -> str | None:
    """Return `TimedVideo.left_out` without listing the packets of the file.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    with VideoFile(path) as file:
        return _left_out(file.facts)


def _left_out(facts: StreamFacts) -> str | None:
    unknown = [str(track + 1) for track in facts.unknown_sound]
    if not unknown:
        return None
    tracks = "sound track" if len(unknown) == 1 else "sound tracks"
    return f"{tracks} {', '.join(unknown)} left out: no decoder for the codec"


class _OpenSampler(FrameSampler):
    """FrameSampler that exposes its timeline and packets."""

    @property
    def timeline(self) -> Timeline:
        return self._timeline

    @property
    def packets(self) -> Packets:
        return self._packets

    @property
    def stream_facts(self) -> StreamFacts:
        return self._facts
