"""Packets become a timeline, and a timeline the stretches to decode."""

from fractions import Fraction

import numpy as np
import pytest

from vidground.video.packets import MISSING, Packets
from vidground.video.timeline import (
    Clock,
    Stretch,
    Timeline,
    plan_stretches,
    timeline_of_output,
    timeline_of_presentation,
)

CLOCK = Clock(Fraction(1, 1000), (Fraction(25),))


def packets(
    times: list[int],
    *,
    keys: tuple[int, ...] = (0,),
    hidden: tuple[int, ...] = (),
    durations: int = 40,
    jumps: tuple[int, ...] = (),
    damaged: int = 0,
) -> Packets:
    index = np.arange(len(times))
    return Packets(
        times=np.array(times, np.int64),
        durations=np.full(len(times), durations, np.int64),
        keys=np.isin(index, keys),
        shown=~np.isin(index, hidden),
        jumps=jumps,
        complete=MISSING not in times,
        open_groups=False,
        damaged=damaged,
    )


def shown(table: Packets, first_decoded: int = 0) -> Timeline:
    return timeline_of_presentation(table, CLOCK, first_decoded=first_decoded)


def test_frames_are_put_in_the_order_of_showing_from_zero() -> None:
    timeline = shown(packets([1400, 1520, 1440, 1480]))
    assert timeline.ticks.tolist() == [0, 40, 80, 120]
    assert timeline.packets is not None
    assert timeline.packets.tolist() == [0, 2, 3, 1]
    assert (timeline.rate, timeline.duration, timeline.average_fps) == (25, Fraction(4, 25), 25)
    assert timeline.skippable
    assert timeline.note is None


def test_hidden_packets_are_not_shown() -> None:
    timeline = shown(packets([-80, -40, 0, 40], hidden=(0, 1)), first_decoded=2)
    assert timeline.ticks.tolist() == [0, 40]
    assert timeline.packet_ticks.tolist() == [-80, -40, 0, 40]


def test_a_video_cut_within_a_group_shows_nothing_before_its_first_key_frame() -> None:
    table = packets([0, 40, 160, 80, 120, 200], keys=(2,))
    timeline = shown(table, first_decoded=2)
    assert timeline.ticks.tolist() == [160, 200]
    assert (timeline.duration, timeline.shown) == (Fraction(6, 25), Fraction(2, 25))
    assert (timeline.rate, timeline.average_fps) == (25, 25)


@pytest.mark.parametrize(
    ("sound_start_s", "first"),
    [(Fraction(2), 3000), (Fraction(-2), 7000), (Fraction(-1, 20), 5000), (Fraction(9), 0)],
)
def test_times_count_from_the_earlier_of_sound_and_pictures(
    sound_start_s: Fraction, first: int
) -> None:
    """Only sound that starts a moment before 0 is an encoder's delay, not the file's start."""
    clock = Clock(CLOCK.time_base, CLOCK.nominal, sound_start_s)
    timeline = timeline_of_presentation(packets([5000, 5040]), clock, first_decoded=0)
    assert timeline.ticks.tolist() == [first, first + 40]
    assert timeline.packet_ticks.tolist() == [first, first + 40]
    assert timeline.duration == Fraction(first + 80, 1000)


def test_a_damaged_first_key_frame_does_not_move_the_start() -> None:
    table = packets([0, 40, 80, 120], keys=(0, 2))
    assert len(shown(table, first_decoded=2)) == 4


def test_an_unknown_last_duration_is_the_mean_of_the_others() -> None:
    assert shown(packets([0, 30, 100], durations=0)).end_tick == 150


def test_time_goes_on_where_the_clock_is_set_anew() -> None:
    timeline = shown(packets([5000, 5040, 1000, 1040], keys=(0, 2), jumps=(2,)))
    assert timeline.ticks.tolist() == [0, 40, 80, 120]
    assert not timeline.skippable
    assert timeline.note == (
        "the clock jumps back by 4.1 s at 0.1 s; the times continue without the jump"
    )
    ahead = shown(packets([5000, 5040, 90_080, 90_120], keys=(0, 2), jumps=(2,)))
    assert ahead.ticks.tolist() == [0, 40, 80, 120]
    assert "jumps ahead by 85.0 s at 0.1 s" in str(ahead.note)


@pytest.mark.parametrize("table", [packets([0, 40, 40, 80]), packets([0, 40], damaged=1)])
def test_doubtful_packets_are_not_skipped(table: Packets) -> None:
    timeline = shown(table)
    assert not timeline.skippable
    assert timeline.note


def test_frames_in_order_of_output_take_the_times_in_order() -> None:
    timeline = timeline_of_output(packets([3, 1, 2, 0], durations=1), Clock(Fraction(1, 25), ()))
    assert timeline.ticks.tolist() == [0, 1, 2, 3]
    assert timeline.packets is None
    assert timeline.rate == 25


def test_frames_without_times_follow_the_codec_rate() -> None:
    clock = Clock(Fraction(1, 1000), (Fraction(25), Fraction(50)))
    table = packets([MISSING] * 4, durations=0)
    timeline = timeline_of_output(table, clock, decoded=np.array([0, 2, 1]))
    assert timeline.ticks.tolist() == [0, 20, 40]
    assert timeline.duration == Fraction(3, 50)


def plan(timeline: Timeline, table: Packets, frames: list[int]) -> list[Stretch] | None:
    stretches = plan_stretches(timeline, table.keys, np.array(frames))
    return None if stretches is None else list(stretches)


def test_each_group_is_decoded_only_up_to_its_last_wanted_frame() -> None:
    table = packets([i * 40 for i in range(12)], keys=(0, 4, 8))
    assert plan(shown(table), table, [1, 2, 9]) == [
        Stretch(0, 2, (1, 2), frozenset()),
        Stretch(8, 9, (9,), frozenset()),
    ]


def test_a_leading_picture_needs_the_group_before() -> None:
    # Packets 5 and 6 are stored after key packet 4 and shown before it.
    table = packets([0, 40, 80, 120, 240, 160, 200, 280], keys=(0, 4))
    timeline = shown(table)
    assert plan(timeline, table, [5]) == [Stretch(0, 6, (6,), frozenset())]
    assert plan(timeline, table, [7]) == [Stretch(4, 7, (7,), frozenset({5, 6}))]
    assert plan(timeline, table, [5, 7]) == [Stretch(0, 7, (6, 7), frozenset())]


def test_groups_out_of_order_forbid_skipping() -> None:
    table = packets([400, 440, 0, 40], keys=(0, 2))
    assert plan(shown(table), table, [0, 2]) is None
