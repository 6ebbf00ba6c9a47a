"""The rules of sampling, on numbers alone."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.video.sampling import (
    Samples,
    constant_rate,
    count_instants,
    group_samples,
    sample_frames,
)

MS = Fraction(1, 1000)
NTSC = Fraction(30000, 1001)


def rounded_ticks(frames: int, rate: Fraction, time_base: Fraction) -> np.ndarray:
    return np.array([round(i / rate / time_base) for i in range(frames)], np.int64)


def sample_constant(frames: int, rate: Fraction, fps: float) -> Samples:
    ticks = rounded_ticks(frames, rate, MS)
    end_tick = round(frames / rate / MS)
    return sample_frames(ticks, end_tick=end_tick, time_base=MS, rate=rate, fps=fps)


@pytest.mark.parametrize(
    "rate", [Fraction(24), Fraction(25), Fraction(30), NTSC, Fraction(24000, 1001), Fraction(60)]
)
@pytest.mark.parametrize("truncate", [False, True])
def test_millisecond_ticks_count_as_constant(rate: Fraction, truncate: bool) -> None:
    frames = 5000
    exact = [i / rate / MS for i in range(frames)]
    ticks = np.array([int(t) if truncate else round(t) for t in exact], np.int64)
    end_tick = int(ticks[-1]) + 33
    measured = constant_rate(ticks, end_tick=end_tick, time_base=MS)
    assert measured is not None
    assert abs(float(measured) - float(rate)) < 1e-3
    claimed = constant_rate(ticks, end_tick=end_tick, time_base=MS, nominal=(Fraction(7), rate))
    assert claimed == rate


def test_a_small_fraction_is_preferred_to_the_measured_rate() -> None:
    ticks = rounded_ticks(377, Fraction(25, 2), MS)
    assert constant_rate(ticks, end_tick=377 * 80, time_base=MS) == Fraction(25, 2)


@pytest.mark.parametrize(
    "ticks",
    [
        [0, 40, 80, 122, 160, 200],  # one frame two ticks late
        [0, 40, 80, 120, 200, 240],  # one frame missing
        [0, 33, 67, 133, 167, 200],
    ],
)
def test_uneven_frames_are_no_constant_rate(ticks: list[int]) -> None:
    found = constant_rate(
        np.array(ticks), end_tick=ticks[-1] + 40, time_base=MS, nominal=(Fraction(25),)
    )
    assert found is None


def test_coarse_ticks_do_not_hide_uneven_frames() -> None:
    # Frames held for one and two thirtieths in turn are within a tick of 20 per second.
    ticks = np.array([0, 1, 3, 4, 6, 7, 9, 10])
    assert constant_rate(ticks, end_tick=12, time_base=Fraction(1, 30)) is None


def test_pictures_shown_for_different_times_are_no_constant_rate() -> None:
    # Two pictures, nine seconds and a twenty-fifth of a second long.
    assert constant_rate(np.array([0, 9000]), end_tick=9040, time_base=MS) is None
    assert constant_rate(np.array([0, 9000]), end_tick=18000, time_base=MS) == Fraction(1, 9)


def test_one_frame_has_no_rate() -> None:
    assert constant_rate(np.array([0]), end_tick=40, time_base=MS) is None


def test_constant_rate_rounds_half_to_even() -> None:
    # k * 12.5 = 0, 12.5, 25, 37.5, 50, 62.5
    samples = sample_constant(70, Fraction(25, 2), 1.0)
    assert samples.frames.tolist() == [0, 12, 25, 38, 50, 62]
    assert samples.times_s.tolist() == pytest.approx([0, 0.96, 2.0, 3.04, 4.0, 4.96])


def test_constant_rate_of_ntsc() -> None:
    samples = sample_constant(390, NTSC, 1.0)
    assert samples.frames.tolist() == [min(round(k * 30000 / 1001), 389) for k in range(14)]
    assert samples.times_s[1] == 1.001


@pytest.mark.parametrize(("frames", "count"), [(250, 10), (251, 11), (249, 10), (1, 1), (25, 1)])
def test_constant_rate_counts_as_the_released_rule(frames: int, count: int) -> None:
    samples = sample_constant(frames, Fraction(25), 1.0)
    assert len(samples.frames) == len(samples.times_s) == count


def test_the_last_sample_is_clipped_to_the_last_frame() -> None:
    # 13 frames at 12.5: position 12.5 rounds to 12, the last; 38 frames: 37.5 rounds to 38.
    assert sample_constant(13, Fraction(25, 2), 1.0).frames.tolist() == [0, 12]
    assert sample_constant(38, Fraction(25, 2), 1.0).frames.tolist() == [0, 12, 25, 37]


def test_a_repeated_last_frame_keeps_times_rising() -> None:
    # Positions 0, 1.25, …, 8.75 of nine frames: 7.5 rounds to 8, 8.75 to 9, clipped to 8.
    samples = sample_constant(9, Fraction(10), 8.0)
    assert samples.frames.tolist() == [0, 1, 2, 4, 5, 6, 8, 8]
    assert samples.times_s[-2:].tolist() == [0.8, 0.875]


def test_sampling_denser_than_frames_shows_what_a_player_shows() -> None:
    # A frame a minute: sample 59 still shows frame 0.
    ticks = np.arange(3, dtype=np.int64) * 60
    samples = sample_frames(
        ticks, end_tick=180, time_base=Fraction(1), rate=Fraction(1, 60), fps=1.0
    )
    assert samples.times_s.tolist() == list(range(180))
    assert samples.frames.tolist() == [0] * 60 + [1] * 60 + [2] * 60


def test_variable_rate_shows_the_last_frame_that_started() -> None:
    ticks = np.array([0, 400, 999, 1001, 2000, 4500])
    samples = sample_frames(ticks, end_tick=6001, time_base=MS, rate=None, fps=1.0)
    assert samples.times_s.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert samples.frames.tolist() == [0, 2, 4, 4, 4, 5, 5]


def test_a_time_rounded_up_does_not_delay_its_frame() -> None:
    # Frame 1 starts at 41.67 ms, stored as 42; the instant 1/24 s shows it all the same.
    ticks = rounded_ticks(48, Fraction(24), MS)
    samples = sample_frames(ticks, end_tick=2000, time_base=MS, rate=None, fps=24.0)
    assert samples.frames.tolist() == list(range(48))


def test_a_gap_is_as_long_as_it_is() -> None:
    ticks = np.array([0, 40, 36_000_040])
    samples = sample_frames(ticks, end_tick=36_000_080, time_base=MS, rate=None, fps=1.0)
    assert list(group_samples(samples.frames)) == [(0, 0, 0), (1, 1, 36_000)]


@pytest.mark.parametrize(
    ("duration", "fps", "count"),
    [
        (Fraction(10), 0.1, 1),  # 0.1 as a float is a little more than a tenth
        (Fraction(10), 1.0, 10),
        (Fraction(10001, 1000), 1.0, 11),
        (Fraction(0), 1.0, 1),
    ],
)
def test_count_of_instants(duration: Fraction, fps: float, count: int) -> None:
    assert count_instants(duration, fps) == count


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    st.sampled_from([0.1, 0.3, 1.0, 2.5, 7.0]),
)
def test_every_sample_shows_the_frame_of_its_time(steps: list[int], fps: float) -> None:
    ticks = np.cumsum([0, *steps[:-1]]).astype(np.int64)
    end_tick = int(ticks[-1]) + steps[-1]
    rate = constant_rate(ticks, end_tick=end_tick, time_base=MS)
    samples = sample_frames(ticks, end_tick=end_tick, time_base=MS, rate=rate, fps=fps)
    assert np.all(np.diff(samples.times_s) > 0)
    starts = ticks[samples.frames] / 1000
    ends = np.append(ticks[1:], np.iinfo(np.int64).max)[samples.frames] / 1000
    assert np.all(starts <= samples.times_s + 0.0005)
    assert np.all(samples.times_s < ends)
    runs = list(group_samples(samples.frames))
    assert [k for _, first, last in runs for k in range(first, last + 1)] == list(
        range(len(samples.frames))
    )
    assert [frame for frame, _, _ in runs] == sorted(set(samples.frames.tolist()))
