"""A video's timeline beside the times that its file holds, for programs that read the file.

Knows no ffmpeg program; decodes one frame.
"""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidground.video.frame_sampler import Footage
from vidground.video.info import VideoInfo
from vidground.video.orientation import Orientation
from vidground.video.packets import Packets
from vidground.video.timeline import Timeline

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MATROSKA = b"\x1a\x45\xdf\xa3"


class TimedVideo:
    """One video file, its packets listed. Seconds count from the first frame if not said otherwise.

    Raises:
        VideoError: see `Footage`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._footage = _OpenFootage(path, fps=1.0)

    @property
    def info(self) -> VideoInfo:
        """What was measured."""
        return self._footage.info

    @property
    def timeline(self) -> Timeline:
        """The frames' times."""
        return self._footage.timeline

    @property
    def packets(self) -> Packets:
        """The packets of the video stream."""
        return self._footage.packets

    @property
    def orientation(self) -> Orientation:
        """How the first frame is turned and mirrored before it is shown."""
        return next(self._footage.frames()).frame.orientation

    @property
    def is_timed(self) -> bool:
        """Whether the file's own times can be trusted; else frames can only be counted."""
        return self.timeline.note is None and self.timeline.packets is not None

    @property
    def has_index(self) -> bool:
        """Whether it is MP4 or Matroska, where a reader that seeks never lands too late."""
        with Path(self.info.path).open("rb") as file:
            head = file.read(8)
        return head[4:] in _MP4_BOXES or head.startswith(_MATROSKA)

    @property
    def origin_s(self) -> float | None:
        """The first frame's time as the file counts it; None if the file is not timed."""
        return self.absolute_s(0.0) if self.is_timed else None

    @property
    def step(self) -> Fraction:
        """Seconds that the times of frames are whole multiples of: a frame, or the file's ticks."""
        rate = self.timeline.rate
        return 1 / rate if rate is not None else self.timeline.time_base

    def absolute_s(self, seconds: float) -> float:
        """Return a time as the file counts it, if it is timed."""
        assert self.timeline.packets is not None
        first = int(self.packets.times[self.timeline.packets[0]])
        return first * float(self.timeline.time_base) + seconds

    def key_before_s(self, frame: int) -> float | None:
        """Return the time of the last key frame up to `frame`; None if frames are not timed."""
        if not self.is_timed or self.timeline.packets is None:
            return None
        keys = np.flatnonzero(self.packets.keys[self.timeline.packets[: frame + 1]])
        return self._bound_s(int(keys[-1])) if len(keys) else None

    def between_s(self, frame: int, margin_s: float) -> float:
        """Return a time before `frame` and after the one before it.

        frame: from 0 to the number of frames. margin_s: how long before it at most.
        """
        time_s = self._bound_s(frame)
        if frame == 0:
            return time_s - margin_s
        return time_s - min(margin_s, (time_s - self._bound_s(frame - 1)) / 2)

    def _bound_s(self, frame: int) -> float:
        ticks = self.timeline.ticks
        tick = int(ticks[frame]) if frame < len(ticks) else self.timeline.end_tick
        return tick * float(self.timeline.time_base)


class _OpenFootage(Footage):
    """Footage that shows what it has measured."""

    @property
    def timeline(self) -> Timeline:
        return self._timeline

    @property
    def packets(self) -> Packets:
        return self._packets
