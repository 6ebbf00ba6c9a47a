"""Cuts: which frames and packets of a video a stretch of time comes to. Knows only numbers.

A cut begins and ends at the frames' own boundaries. Where decoding can start at its first frame,
and its packets hold no other frames than its own, they can be copied; else they are encoded anew.
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
    """How moments are cut out of a video.

    mode: "precise" encodes anew, from the frame nearest to the start to the one nearest to the
        end. "fast" copies packets: from the last frame before the start at which decoding can
        begin, to the first after the end where they can be parted. "auto" copies where that
        comes within the tolerance, and encodes the rest.
    tolerance_s: what start, end and length may be off in "auto", in seconds; None for the time
        of one frame.
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
    """The frames [first, end) of a timeline, end > first.

    start_s, end_s: their boundaries, in seconds from the first frame of the video. packets: how
    many packets to copy; None to encode anew.
    """

    first: int
    end: int
    start_s: float
    end_s: float
    packets: int | None

    @property
    def frames(self) -> int:
        """How many frames are shown."""
        return self.end - self.first

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.end_s - self.start_s


class Cutter:
    """Cuts one video. settings: which way.

    Raises InputError if packets must be copied ("fast") and the file's times do not allow it.
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
        self._joints = np.empty(0, np.int64)
        if timeline.skippable and timeline.packets is not None and self._mode != "precise":
            self._joints = _joints(timeline.packets)
            self._starts = self._joints[:-1][self._opens(self._joints[:-1])]
        elif self._mode == "fast":
            why = timeline.note or "it is interlaced"
            raise InputError(f"packets cannot be copied ({why}); choose auto or precise")

    def cut(self, start_s: float, end_s: float) -> Cut:
        """Return the cut for [start_s, end_s), at least one frame long.

        Raises:
            InputError: it begins behind the video's end, or "fast" finds no frame to start at.
        """
        last_s = float(self._bounds_s[-1])
        if start_s >= last_s:
            raise InputError(f"begins at {start_s:.3f} s, but the video ends at {last_s:.3f} s")
        first = _nearest(self._bounds_s[:-1], start_s)
        end = max(_nearest(self._bounds_s, end_s), first + 1)
        if self._mode == "fast":
            return self._around(first, end)
        if len(self._joints):
            for copied in self._near(start_s, min(end_s, last_s)):
                return copied
        return self._cut(first, end, packets=None)

    def _opens(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        assert self._timeline.packets is not None
        return self._packets.keys[self._timeline.packets[frames]]

    def _around(self, first: int, end: int) -> Cut:
        """The shortest stretch of packets that holds the frames [first, end)."""
        before = self._starts[self._starts <= first]
        if not len(before):
            raise InputError("no frame before it can be decoded by itself; choose auto or precise")
        after = self._joints[np.searchsorted(self._joints, end)]
        return self._copied(int(before[-1]), int(after))

    def _near(self, start_s: float, end_s: float) -> Iterator[Cut]:
        """What can be copied within the tolerance, the closest first."""
        if self._packets.open_groups:  # a key picture may be followed by some that lean on others
            return
        most_s = (self._tolerance_s or 0.0) + _ROUNDING_S
        found = []
        for first in _within(self._bounds_s, self._starts, start_s, most_s):
            for end in _within(self._bounds_s, self._joints, end_s, most_s):
                early_s, late_s = self._bounds_s[first] - start_s, self._bounds_s[end] - end_s
                off_s = max(abs(early_s), abs(late_s), abs(late_s - early_s))
                if end > first and off_s <= most_s:
                    found.append((off_s, first, end))
        for _, first, end in sorted(found):
            copied = self._copied(first, end)
            if copied.packets == copied.frames:  # what an edit list hides would be shown again
                yield copied

    def _copied(self, first: int, end: int) -> Cut:
        assert self._timeline.packets is not None
        packets = self._timeline.packets
        behind = int(packets[end:].min()) if end < len(packets) else len(self._packets)
        return self._cut(first, end, packets=behind - int(packets[first]))

    def _cut(self, first: int, end: int, *, packets: int | None) -> Cut:
        start_s, end_s = float(self._bounds_s[first]), float(self._bounds_s[end])
        return Cut(first, end, start_s, end_s, packets)


def _joints(packets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the indices of frames that no packet before is shown after, and the number of frames.

    There the packets can be parted like the frames. packets: `Timeline.packets`.
    """
    before = np.maximum.accumulate(packets)
    behind = np.minimum.accumulate(packets[::-1])[::-1]
    parted = np.flatnonzero(before[:-1] < behind[1:]) + 1
    return np.concatenate([[0], parted, [len(packets)]]).astype(np.int64)


def _nearest(bounds_s: npt.NDArray[np.float64], time_s: float) -> int:
    right = int(np.searchsorted(bounds_s, time_s))
    near = [index for index in (right - 1, right) if 0 <= index < len(bounds_s)]
    return min(near, key=lambda index: abs(float(bounds_s[index]) - time_s))


def _within(
    bounds_s: npt.NDArray[np.float64],
    frames: npt.NDArray[np.int64],
    time_s: float,
    most_s: float,
) -> list[int]:
    """Those of `frames` whose bounds are at most so far from a time."""
    times_s = bounds_s[frames]
    low = np.searchsorted(times_s, time_s - most_s)
    high = np.searchsorted(times_s, time_s + most_s, side="right")
    return [int(frame) for frame in frames[low:high]]
