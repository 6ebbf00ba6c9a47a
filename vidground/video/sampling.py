"""Which frames of a video are looked at, and at what times.

Pure rules on frame times. Knows nothing of files, packets or pixels; imports no torch, no PyAV.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Ticks = npt.NDArray[np.int64]
"""Frame times as containers store them: whole multiples of a time base."""

_STANDARD_DENOMINATOR = 1001
"""Nominal rates are fractions over 1 or 1001 (30000/1001) or small numbers (25/2)."""

_HOLE_S = 600
_HOLE_STEPS = 1000
"""Limits of `find_holes`."""

_FPS_DENOMINATOR = 1_000_000
_END_TOLERANCE_S = 1.0


@dataclass(frozen=True)
class Samples:
    """The T sampled instants of a video.

    Attributes:
        frames: (T,) index, in presentation order, of the frame each sample shows; never falling.
        times_s: (T,) seconds since the first frame was shown; strictly rising.
    """

    frames: npt.NDArray[np.int64]
    times_s: npt.NDArray[np.float64]


def constant_rate(
    ticks: Ticks, *, end_tick: int, time_base: Fraction, nominal: Sequence[Fraction] = ()
) -> Fraction | None:
    """Return the frame rate if all frames are equally far apart, else None.

    A video has the constant rate r if every frame i starts at i/r, within one tick of the time
    base: both its own time and the first frame's may be off by half a tick from rounding, or
    by just under one from truncation. Where ticks are coarse, a quarter of a frame is the limit,
    so that frames that are truly unequal do not pass for rounded ones. The last frame must
    end within a second of n/r too: pictures that are shown for different times are no constant
    rate. The first of these rates that fits is returned: `nominal` ones in their order, the
    measured rate as a fraction with a small denominator, the measured rate.

    Args:
        ticks: (n,) rising, the first is 0.
        end_tick: end of the last frame.
        time_base: seconds per tick.
        nominal: rates claimed by the container, in frames per second.
    """
    frames = len(ticks)
    if frames < 2 or ticks[-1] <= 0:
        return None
    measured = Fraction(frames - 1) / (int(ticks[-1]) * time_base)
    for rate in (*nominal, measured.limit_denominator(_STANDARD_DENOMINATOR), measured):
        if rate <= 0:
            continue
        interval = float(1 / (rate * time_base))
        error = np.abs(ticks - np.arange(frames) * interval).max()
        end_error_s = abs(end_tick - frames * interval) * float(time_base)
        if error <= min(1.0, interval / 4) + 1e-6 and end_error_s < _END_TOLERANCE_S:
            return rate
    return None


def count_instants(duration: Fraction, fps: float) -> int:
    """Return how many instants k/fps lie in [0, duration), at least 1."""
    exact_fps = Fraction(fps).limit_denominator(_FPS_DENOMINATOR)  # 0.1 means one tenth
    return max(1, math.ceil(duration * exact_fps))


def sample_frames(
    ticks: Ticks, *, end_tick: int, time_base: Fraction, rate: Fraction | None, fps: float
) -> Samples:
    """Choose the frames that stand for a video at `fps` samples a second.

    A constant rate of at least `fps` follows the rule the released weights were trained with:
    sample k is frame round(k * rate / fps), half to even, at most the last; its time is the
    frame's own. Where that rule repeats the last frame, the repeat's time is its instant k/fps.
    Every other video follows what a player shows: sample k is the last frame that started by
    the instant k/fps (give or take half a tick); its time is the instant.

    Args:
        ticks: (n,) rising, the first is 0.
        end_tick: end of the last frame.
        time_base: seconds per tick.
        rate: from `constant_rate`.
        fps: samples per second, above 0.
    """
    if rate is not None and rate >= fps:
        positions = np.arange(0, len(ticks), float(rate) / fps).round().astype(np.int64)
        frames = np.minimum(positions, len(ticks) - 1)
        times_s = _seconds(ticks[frames], time_base)
        repeats = np.flatnonzero(np.diff(frames) == 0) + 1
        times_s[repeats] = repeats / fps
        return Samples(frames, times_s)
    count = count_instants(end_tick * time_base, fps)
    times_s = np.arange(count) / fps
    shown_by = times_s * time_base.denominator / time_base.numerator + 0.5
    frames = np.searchsorted(ticks, shown_by, side="right") - 1
    return Samples(frames.astype(np.int64), times_s)


def find_holes(ticks: Ticks, time_base: Fraction) -> npt.NDArray[np.int64]:
    """Return the frames after which the video pauses: nothing was recorded for a long time.

    The time to the next frame is more than ten minutes and a thousand times the usual one, so
    that a slide show, where pictures last for minutes, has no holes.

    Args:
        ticks: (n,) times of the frames, rising.
        time_base: seconds per tick.

    Returns:
        (holes,) indices of frames, rising.
    """
    steps = np.diff(ticks)
    if not len(steps):
        return np.empty(0, np.int64)
    limit = max(float(_HOLE_S / time_base), _HOLE_STEPS * float(np.median(steps)))
    return np.flatnonzero(steps > limit)


def leave_out_holes(
    samples: Samples, holes: npt.NDArray[np.int64], starts_s: npt.NDArray[np.float64], fps: float
) -> Samples:
    """Return the samples without those of pauses.

    Args:
        samples: of a video, `times_s` on the clock of `starts_s`.
        holes: frames before a pause, from `find_holes`.
        starts_s: (n,) start of every frame in seconds.
        fps: samples per second; one period after its start, such a frame is taken to be over.
    """
    over_s = starts_s[samples.frames] + 1 / fps
    outside = ~np.isin(samples.frames, holes) | (samples.times_s < over_s)
    return Samples(samples.frames[outside], samples.times_s[outside])


def group_samples(frames: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield (frame, first, last) for every run of samples that show the same frame."""
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    ends = np.append(starts[1:], len(frames)) - 1
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        yield int(frames[first]), first, last


def _seconds(ticks: Ticks, time_base: Fraction) -> npt.NDArray[np.float64]:
    seconds: npt.NDArray[np.float64] = ticks * time_base.numerator / time_base.denominator
    return seconds
