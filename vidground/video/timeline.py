"""The true times of a video's frames, worked out from its packets.

Containers store packets in the order of decoding, sometimes with no times, double times or a
clock that jumps back. Here they become one rising timeline that starts at 0, and the stretches
of packets that must be decoded to get some of the frames. Knows only numbers: no files, no
pixels, no torch, no PyAV.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vidground.video.packets import MISSING, Packets
from vidground.video.sampling import Ticks, constant_rate

_FALLBACK_RATE = Fraction(25)
"""Frame rate assumed where a file tells nothing at all about time."""

_MOST_KEYS_BACK = 4
"""A leading picture is shown before the last key packet, not before many of them."""


@dataclass(frozen=True)
class Clock:
    """What the file says about time.

    time_base: seconds a tick. nominal: claimed frames per second, the container's claim before
    the codec's; raw streams, where the container's is made up, have only the last to go by.
    """

    time_base: Fraction
    nominal: tuple[Fraction, ...]

    @property
    def frame_ticks(self) -> Fraction:
        """Ticks a frame lasts at the nominal rate."""
        rate = self.nominal[-1] if self.nominal else _FALLBACK_RATE
        return 1 / (rate * self.time_base)


@dataclass(frozen=True)
class Timeline:
    """The n frames of a video in the order they are shown.

    ticks: (n,) rising, the first is 0. end_tick: end of the last frame. time_base: seconds a
    tick. rate: frames per second if constant, else None. packets: (n,) which packet holds each
    frame, or None if that is only known by decoding (frame i is then the i-th that comes out).
    packet_ticks: like `Packets.times`, on this timeline. skippable: frames can be decoded without
    decoding all before them. note: what is odd about the file's times; None if nothing.
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
        """Seconds from the first frame's start to the last frame's end."""
        if self.rate is not None:
            return len(self) / self.rate
        return self.end_tick * self.time_base

    @property
    def average_fps(self) -> float | None:
        """Frames per second; None for a single frame."""
        if len(self) < 2 or self.duration <= 0:
            return None
        return float(self.rate or len(self) / self.duration)


@dataclass(frozen=True)
class Stretch:
    """Packets first..last, to be decoded in one go.

    wanted: those whose frames are asked for, in the order of showing. left_out: those that lean
    on packets before the first, so that they cannot be decoded here, nor need to be.
    """

    first: int
    last: int
    wanted: tuple[int, ...]
    left_out: frozenset[int]


def timeline_of_presentation(
    packets: Packets, clock: Clock, *, first_decoded: int, interlaced: bool = False
) -> Timeline:
    """Return the timeline of packets that all carry a presentation time.

    first_decoded: packet of the first frame that comes out. If that is the first key packet,
    the video was cut from a longer one, and what is shown before it leans on packets that are
    gone: the timeline starts at that frame. interlaced: a packet may hold one field, so that a
    frame may need the packet after its own, too.
    """
    times = _unwrap_jumps(packets, clock)
    shown = np.flatnonzero(packets.shown)
    order = shown[np.argsort(times[shown], kind="stable")]
    key_packets = np.flatnonzero(packets.keys)
    if len(key_packets) and first_decoded == key_packets[0]:
        decodable = times[order] >= times[first_decoded]
        order = order[decodable | (order >= np.append(key_packets, len(times))[1])]
    ticks = times[order]
    note = None
    if packets.damaged:
        note = "the file marks packets as damaged"
    elif packets.jumps:
        note = "its clock jumps back; time is taken to go on"
    elif np.any(np.diff(ticks) <= 0):
        note = "some frames have the same time"
    return _timeline(
        ticks,
        int(packets.durations[order[-1]]),
        clock,
        packets=order,
        times=times,
        skippable=note is None and not interlaced,
        note=note,
    )


def timeline_of_output(
    packets: Packets, clock: Clock, *, decoded: npt.NDArray[np.int64] | None = None
) -> Timeline:
    """Return the timeline of frames whose times follow from the order they come out in.

    Frame i gets the i-th of the times that are stored; where some are missing, frames are
    evenly spaced: at the nominal rate, or over the span of the times there are if that is longer.

    decoded: packets of the frames in the order they were put out, where counting packets would
    not count frames; None where every shown packet gives one frame.
    """
    frames = np.flatnonzero(packets.shown) if decoded is None else decoded
    times = np.sort(packets.times[frames])
    known = times[times != MISSING]
    if len(known) < len(frames):
        span = int(known[-1] - known[0]) if len(known) else 0
        span = max(span, round((len(frames) - 1) * clock.frame_ticks))
        times = np.linspace(0, span, len(frames)).round().astype(np.int64)
    return _timeline(
        times,
        int(packets.durations[frames[-1]]),
        clock,
        packets=decoded,
        times=packets.times,
        skippable=False,
        note="the file stores no presentation times; frames are timed by their order",
    )


def plan_stretches(
    timeline: Timeline, keys: npt.NDArray[np.bool_], frames: npt.NDArray[np.int64]
) -> Iterator[Stretch] | None:
    """Return the least packets to decode for `frames`; None if their order forbids skipping.

    A frame needs the packets from the last key packet that is shown no later than itself: a
    frame stored after a key packet but shown before it (a leading picture of an open group of
    pictures) needs the group before, too.

    keys: `Packets.keys`. frames: indices on the timeline, rising, at least one.
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


def _unwrap_jumps(packets: Packets, clock: Clock) -> Ticks:
    """Return packet times where, after the clock was set back, time goes on all the same."""
    if not packets.jumps:
        return packets.times
    times = packets.times.copy()
    bounds = [*packets.jumps, len(times)]
    frame_ticks = max(1, round(clock.frame_ticks))
    end = int(times[: bounds[0]].max()) + frame_ticks
    for start, stop in pairwise(bounds):
        times[start:stop] += end - int(times[start:stop].min())
        end = int(times[start:stop].max()) + frame_ticks
    return times


def _timeline(
    times_shown: Ticks,
    last_duration: int,
    clock: Clock,
    *,
    packets: npt.NDArray[np.int64] | None,
    times: Ticks,
    skippable: bool,
    note: str | None,
) -> Timeline:
    start = int(times_shown[0])
    ticks = times_shown - start
    if last_duration <= 0:
        mean = Fraction(int(ticks[-1]), len(ticks) - 1) if len(ticks) > 1 else Fraction(0)
        last_duration = max(1, round(mean or clock.frame_ticks))
    end_tick = int(ticks[-1]) + last_duration
    rate = constant_rate(ticks, end_tick=end_tick, time_base=clock.time_base, nominal=clock.nominal)
    known = times != MISSING
    return Timeline(
        ticks=ticks,
        end_tick=end_tick,
        time_base=clock.time_base,
        rate=rate,
        packets=packets,
        packet_ticks=np.where(known, times - np.where(known, start, 0), MISSING),
        skippable=skippable,
        note=note,
    )
