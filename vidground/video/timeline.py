"""The true times of a video's frames, worked out from its packets.

Containers store packets in decoding order, sometimes without times, with duplicate times or with
a clock that jumps. Here they become one rising timeline, and the stretches of packets that must
be decoded to get some of the frames. 0 is the start of the file as players count it: of the
sound, where that begins before the pictures. Knows only numbers: no files, no pixels, no torch,
no PyAV.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidground.video.packets import MISSING, Packets
from vidground.video.sampling import Ticks, constant_rate

RAW_FPS = 25
"""Frame rate assumed where a file states nothing at all about time."""

_MOST_KEYS_BACK = 4
"""A leading picture is shown before the last key packet, not before many of them."""

_PRIMING_S = Fraction(1, 10)
"""Sound that starts less than this before 0 is the encoder's delay, which players cut off."""


@dataclass(frozen=True)
class Clock:
    """What the file says about time.

    Attributes:
        time_base: seconds per tick.
        nominal: claimed frames per second, the container's claim before the codec's; raw streams,
            where the container's is made up, have only the last to go by.
        sound_start_s: when the first sound track starts, on the clock of the packets, in seconds;
            None if there is none or it is unknown.
    """

    time_base: Fraction
    nominal: tuple[Fraction, ...]
    sound_start_s: Fraction | None = None

    @property
    def frame_ticks(self) -> Fraction:
        """Ticks a frame lasts at the nominal rate."""
        rate = self.nominal[-1] if self.nominal else Fraction(RAW_FPS)
        return 1 / (rate * self.time_base)

    def origin(self, first_time: int) -> int:
        """Return the tick at which the file starts for a player.

        Args:
            first_time: of the first packet or frame of the video.
        """
        if self.sound_start_s is None:
            return first_time
        is_priming = -_PRIMING_S < self.sound_start_s < 0
        sound = 0 if is_priming else math.floor(self.sound_start_s / self.time_base)
        return min(first_time, sound)


@dataclass(frozen=True)
class Timeline:
    """The n frames of a video in presentation order.

    Attributes:
        ticks: (n,) times of the frames, rising; 0 is the start of the file.
        end_tick: end of the last frame.
        time_base: seconds per tick.
        rate: frames per second if constant, else None.
        packets: (n,) which packet holds each frame, or None if that is only known by decoding
            (frame i is then the i-th that the decoder returns).
        packet_ticks: like `Packets.times`, on this timeline.
        skippable: whether frames can be decoded without decoding all frames before them.
        note: what is unusual about the file's times; None if nothing.
    """

    ticks: Ticks
    end_tick: int
    time_base: Fraction
    rate: Fraction | None
    packets: npt.NDArray[np.int64] | None
    packet_ticks: Ticks
    skippable: bool
    note: str | None

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def duration(self) -> Fraction:
        """Seconds from the start of the file to the end of the last frame."""
        if self.rate is not None:
            return self.start + len(self) / self.rate
        return self.end_tick * self.time_base

    @property
    def start(self) -> Fraction:
        """Seconds from the start of the file to the first frame."""
        return int(self.ticks[0]) * self.time_base

    @property
    def shown(self) -> Fraction:
        """Seconds from the first frame to the end of the last frame."""
        return self.duration - self.start

    @property
    def average_fps(self) -> float | None:
        """Frames per second; None for a single frame."""
        if len(self) < 2 or self.shown <= 0:
            return None
        return float(self.rate or len(self) / self.shown)


@dataclass(frozen=True)
class Stretch:
    """Packets first..last, to be decoded in one go.

    Attributes:
        first, last: indices of packets, inclusive.
        wanted: packets whose frames are requested, in presentation order.
        left_out: packets that refer to pictures before the first, so that they cannot be decoded
            here; they are not needed either.
    """

    first: int
    last: int
    wanted: tuple[int, ...]
    left_out: frozenset[int]


def timeline_of_presentation(
    packets: Packets, clock: Clock, *, first_decoded: int, interlaced: bool = False
) -> Timeline:
    """Return the timeline of packets that all carry a presentation time.

    Args:
        packets: of the stream.
        clock: of the stream.
        first_decoded: packet of the first frame that the decoder returns. If that is the first
            key packet, the video was cut from a longer one, and what is shown before it refers
            to packets that are missing: that frame is the first.
        interlaced: whether a packet may hold one field, so that a frame may need the packet after
            its own, too.
    """
    times, jumps = _without_jumps(packets, clock)
    shown = np.flatnonzero(packets.shown)
    first_time = min(int(times[shown[0]]), int(times[first_decoded]))
    order = shown[np.argsort(times[shown], kind="stable")]
    key_packets = np.flatnonzero(packets.keys)
    if len(key_packets) and first_decoded == key_packets[0]:
        decodable = times[order] >= times[first_decoded]
        order = order[decodable | (order >= np.append(key_packets, len(times))[1])]
    ticks = times[order]
    note = None
    if packets.damaged:
        note = "the file marks packets as damaged"
        note = f"{note}; {jumps}" if jumps else note
    elif jumps:
        note = jumps
    elif np.any(np.diff(ticks) <= 0):
        note = "some frames have the same time"
    return _timeline(
        ticks,
        int(packets.durations[order[-1]]),
        clock,
        first_time=first_time,
        packets=order,
        times=times,
        skippable=note is None and not interlaced,
        note=note,
    )


def timeline_of_output(
    packets: Packets, clock: Clock, *, decoded: npt.NDArray[np.int64] | None = None
) -> Timeline:
    """Return the timeline of frames whose times follow from the order of the decoder's output.

    Frame i gets the i-th of the stored times; where some are missing, frames are evenly spaced:
    at the nominal rate, or over the span of the known times if that is longer.

    Args:
        packets: of the stream.
        clock: of the stream.
        decoded: packets of the frames in the order of output, where counting packets would not
            count frames; None where every shown packet gives one frame.
    """
    frames = np.flatnonzero(packets.shown) if decoded is None else decoded
    times = np.sort(packets.times[frames])
    known = times[times != MISSING]
    if len(known) < len(frames):
        span = int(known[-1] - known[0]) if len(known) else 0
        span = max(span, round((len(frames) - 1) * clock.frame_ticks))
        start = int(known[0]) if len(known) else 0
        times = start + np.linspace(0, span, len(frames)).round().astype(np.int64)
    return _timeline(
        times,
        int(packets.durations[frames[-1]]),
        clock,
        first_time=int(times[0]),
        packets=decoded,
        times=packets.times,
        skippable=False,
        note="the file stores no presentation times; frames are timed by their order",
    )


def plan_stretches(
    timeline: Timeline, keys: npt.NDArray[np.bool_], frames: npt.NDArray[np.int64]
) -> Iterator[Stretch] | None:
    """Return the fewest packets to decode for `frames`; None if their order forbids skipping.

    A frame needs the packets from the last key packet that is shown no later than itself: a
    frame stored after a key packet but shown before it (a leading picture of an open group of
    pictures) needs the group before, too.

    Args:
        timeline: with `packets`.
        keys: `Packets.keys`.
        frames: indices on the timeline, rising, at least one.
    """
    assert timeline.packets is not None
    wanted = timeline.packets[frames]
    key_packets = np.flatnonzero(keys)
    key = np.searchsorted(key_packets, wanted, side="right") - 1
    key_ticks = np.append(timeline.packet_ticks[key_packets], MISSING)  # [-1]: none before
    wanted_ticks = timeline.packet_ticks[wanted]
    for _ in range(_MOST_KEYS_BACK):
        key -= key_ticks[key] > wanted_ticks
    starts = np.append(key_packets, 0)[key]
    if np.any(key_ticks[key] > wanted_ticks) or np.any(np.diff(starts) < 0):
        return None
    return (
        Stretch(first, last, members, _leading(first, last, keys, timeline.packet_ticks))
        for first, last, members in _merge(starts, wanted)
    )


def _merge(
    starts: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Join the ranges starts[i]..wanted[i] that overlap; `starts` never falls."""
    first, last, members = int(starts[0]), int(wanted[0]), [int(wanted[0])]
    for start, packet in zip(map(int, starts[1:]), map(int, wanted[1:]), strict=True):
        if start > last:
            yield first, last, tuple(members)
            first, last, members = start, packet, []
        last = max(last, packet)
        members.append(packet)
    yield first, last, tuple(members)


def _leading(
    first: int, last: int, keys: npt.NDArray[np.bool_], packet_ticks: Ticks
) -> frozenset[int]:
    """Return the packets of the group of pictures at `first` that are shown before its key."""
    group = slice(first + 1, last + 1)
    later_keys = np.flatnonzero(keys[group])
    end = int(later_keys[0]) if len(later_keys) else last - first
    leading = np.flatnonzero(packet_ticks[group][:end] < packet_ticks[first])
    return frozenset((leading + first + 1).tolist())


def _without_jumps(packets: Packets, clock: Clock) -> tuple[Ticks, str | None]:
    """Return packet times that continue wherever the clock was set anew, and a note on that."""
    if not packets.jumps:
        return packets.times, None
    times = packets.times.copy()
    first_jump = ""
    end = 0
    for start, stop in pairwise([0, *packets.jumps, len(times)]):
        shown = start + np.flatnonzero(packets.shown[start:stop])
        if not len(shown):
            continue
        if start:
            shift = end - int(times[shown].min())
            times[start:stop] += shift
            first_jump = first_jump or _jump_text(-shift, end - int(times[0]), clock)
        last = int(shown[np.argmax(times[shown])])
        end = int(times[last]) + (int(packets.durations[last]) or max(1, round(clock.frame_ticks)))
    if len(packets.jumps) == 1:
        return times, f"the clock jumps {first_jump}; the times continue without the jump"
    number = len(packets.jumps)
    return times, (
        f"the clock jumps {number} times, first {first_jump}; the times continue without the jumps"
    )


def _jump_text(ticks: int, at: int, clock: Clock) -> str:
    seconds = float(ticks * clock.time_base)
    direction = "ahead" if ticks > 0 else "back"
    return f"{direction} by {abs(seconds):.1f} s at {float(at * clock.time_base):.1f} s"


def _timeline(
    times_shown: Ticks,
    last_duration: int,
    clock: Clock,
    *,
    first_time: int,
    packets: npt.NDArray[np.int64] | None,
    times: Ticks,
    skippable: bool,
    note: str | None,
) -> Timeline:
    origin = clock.origin(min(first_time, int(times_shown[0])))
    ticks = times_shown - origin
    first, last = int(ticks[0]), int(ticks[-1])
    if last_duration <= 0:
        mean = Fraction(last - first, len(ticks) - 1) if len(ticks) > 1 else Fraction(0)
        last_duration = max(1, round(mean or clock.frame_ticks))
    end_tick = last + last_duration
    rate = constant_rate(
        ticks - first,
        end_tick=end_tick - first,
        time_base=clock.time_base,
        nominal=clock.nominal,
    )
    known = times != MISSING
    return Timeline(
        ticks=ticks,
        end_tick=end_tick,
        time_base=clock.time_base,
        rate=rate,
        packets=packets,
        packet_ticks=np.where(known, times - np.where(known, origin, 0), MISSING),
        skippable=skippable,
        note=note,
    )
