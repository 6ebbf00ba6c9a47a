"""Map an interval of time to the frames and packets of a video. Works on numbers only.

A cut begins and ends at frame boundaries. Its packets can be copied if decoding can start at its
first frame and they hold no other frames; otherwise the frames are re-encoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vidground.errors import InputError
from vidground.video.packets import Packets
from vidground.video.timeline import Timeline

Mode = Literal["auto", "precise", "fast"]

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class CutSettings:
    """How to cut moments out of a video.

    Attributes:
        mode: "precise" re-encodes, from the frame nearest to the start to the frame nearest to the
            end. "fast" copies packets, from the last frame before the start at which decoding can
            begin to the first point after the end where packets can be split. "auto" copies
            where that lies within the tolerance, and re-encodes otherwise.
        tolerance_s: largest error of start, end and length in mode "auto", in seconds, 0 or more;
            None for the duration of one frame.

    Raises:
        InputError: the mode is unknown, or the tolerance out of range.
    """

    mode: Mode = "auto"
    tolerance_s: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(
                f"mode is {self.mode!r}; it must be one of {', '.join(get_args(Mode))}"
            )
        if self.tolerance_s is not None and not 0 <= self.tolerance_s < float("inf"):
            raise InputError(f"tolerance is {self.tolerance_s}; it must be 0 seconds or more")


@dataclass(frozen=True, slots=True)
class Cut:
    """The frames [first, end) of a timeline; at least one.

    Attributes:
        first: index of the first frame.
        end: index after the last frame.
        start_s: when the first frame is shown, in seconds from the file's start.
        end_s: when the last frame ends, in the same seconds.
        packets: number of packets to copy; None to re-encode.
    """

    first: int
    end: int
    start_s: float
    end_s: float
    packets: int | None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.end - self.first

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


class Cutter:
    """Finds the cuts of one video.

    Args:
        timeline: times of the video's frames.
        packets: of its video stream.
        settings: how to cut.

    Raises:
        InputError: the mode is "fast", and the file's times do not allow copying packets.
    """

    def __init__(self, timeline: Timeline, packets: Packets, settings: CutSettings) -> None:
        self._timeline = timeline
        self._packets = packets
        self._mode = settings.mode
        base = float(timeline.time_base)
        self._bounds_s = np.append(timeline.ticks, timeline.end_tick) * base
        self._tolerance_s = settings.tolerance_s
        if settings.tolerance_s is None:
            self._tolerance_s = float(self._bounds_s[-1]) / len(timeline)
        self._splits = np.empty(0, np.int64)
        if timeline.skippable and timeline.packets is not None and self._mode != "precise":
            self._splits = _splits(timeline.packets)
            keys = packets.keys[timeline.packets[self._splits[:-1]]]
            self._starts = self._splits[:-1][keys]
        elif self._mode == "fast":
            reason = timeline.note or "it is interlaced"
            raise InputError(f"packets cannot be copied ({reason}); choose auto or precise")

    def cut(self, start_s: float, end_s: float) -> Cut:
        """Return the cut for [start_s, end_s), in seconds; it is at least one frame long.

        Raises:
            InputError: the cut begins behind the video's end, or mode "fast" finds no frame to
                start at.
        """
        last_s = float(self._bounds_s[-1])
        if start_s >= last_s:
            raise InputError(
                f"the clip begins at {start_s:.3f} s, but the video ends at {last_s:.3f} s"
            )
        first = _nearest(self._bounds_s[:-1], start_s)
        end = max(_nearest(self._bounds_s, end_s), first + 1)
        if self._mode == "fast":
            return self._around(first, end)
        if len(self._splits):
            for copied in self._near(start_s, min(end_s, last_s)):
                return copied
        return self._cut(first, end, packets=None)

    def _around(self, first: int, end: int) -> Cut:
        """Return the shortest run of packets that holds the frames [first, end)."""
        before = self._starts[self._starts <= first]
        if not len(before):
            raise InputError("no earlier frame can be decoded on its own; choose auto or precise")
        after = self._splits[np.searchsorted(self._splits, end)]
        return self._copied(int(before[-1]), int(after))

    def _near(self, start_s: float, end_s: float) -> Iterator[Cut]:
        """Yield the cuts that can be copied within the tolerance, the closest first."""
        if self._packets.open_groups:  # pictures after a key frame may refer to earlier ones
            return
        limit_s = (self._tolerance_s or 0.0) + _ROUNDING_S
        found = []
        for first in _within(self._bounds_s, self._starts, start_s, limit_s):
            for end in _within(self._bounds_s, self._splits, end_s, limit_s):
                early_s, late_s = self._bounds_s[first] - start_s, self._bounds_s[end] - end_s
                error_s = max(abs(early_s), abs(late_s), abs(late_s - early_s))
                if end > first and error_s <= limit_s:
                    found.append((error_s, first, end))
        for _, first, end in sorted(found):
            copied = self._copied(first, end)
            if copied.packets == copied.frames:  # a copy would show what an edit list hides
                yield copied

    def _copied(self, first: int, end: int) -> Cut:
        assert self._timeline.packets is not None
        packets = self._timeline.packets
        next_packet = int(packets[end:].min()) if end < len(packets) else len(self._packets)
        return self._cut(first, end, packets=next_packet - int(packets[first]))

    def _cut(self, first: int, end: int, *, packets: int | None) -> Cut:
        start_s, end_s = float(self._bounds_s[first]), float(self._bounds_s[end])
        return Cut(first, end, start_s, end_s, packets)


def _splits(packets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the frames before which packets can be split as frames are, and the frame count.

    There, all packets of earlier frames come before all packets of later frames.

    Args:
        packets: `Timeline.packets`, (T,).
    """
    before = np.maximum.accumulate(packets)
    after = np.minimum.accumulate(packets[::-1])[::-1]
    splits = np.flatnonzero(before[:-1] < after[1:]) + 1
    return np.concatenate([[0], splits, [len(packets)]]).astype(np.int64)


def _nearest(bounds_s: npt.NDArray[np.float64], time_s: float) -> int:
    right = int(np.searchsorted(bounds_s, time_s))
    near = [index for index in (right - 1, right) if 0 <= index < len(bounds_s)]
    return min(near, key=lambda index: abs(float(bounds_s[index]) - time_s))


def _within(
    bounds_s: npt.NDArray[np.float64],
    frames: npt.NDArray[np.int64],
    time_s: float,
    limit_s: float,
) -> list[int]:
    """Return those of `frames` whose bounds are within `limit_s` of a time."""
    times_s = bounds_s[frames]
    low = np.searchsorted(times_s, time_s - limit_s)
    high = np.searchsorted(times_s, time_s + limit_s, side="right")
    return [int(frame) for frame in frames[low:high]]
