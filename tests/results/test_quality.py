"""Quality numbers by hand arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.errors import InputError
from vidground.results.quality import caption_quality
from vidground.results.types import Event


def test_by_hand() -> None:
    # Covered: [10, 30) and [50, 60), 30 of 100 s. Gaps: 10 before, 20 between, 40 after.
    events = [
        Event(50, 60, "A man waves."),
        Event(10, 25, "A dog runs."),
        Event(20, 30, "a  dog RUNS"),
        Event(22, 24, "A man waves"),
    ]
    assert caption_quality(events, 100.0, truncated=True) == {
        "coverage": pytest.approx(0.30),
        "longest_gap_s": 40.0,
        "repeated": 2,  # the second dog; the man at 50 s after the man at 22 s
        "overlaps": 2,  # [20, 30) and [22, 24); [50, 60) is free
        "out_of_range": 0,
        "truncated": True,
        "joined": 0,
        "damaged_packets": 0,
    }


def test_the_gap_before_the_first_event_and_between_events_count() -> None:
    late = [Event(70, 100, "x")]
    assert caption_quality(late, 100.0, truncated=False)["longest_gap_s"] == 70.0
    split = [Event(0, 10, "x"), Event(65, 100, "y")]
    assert caption_quality(split, 100.0, truncated=False)["longest_gap_s"] == 55.0


def test_touching_events_do_not_overlap_and_events_inside_others_do() -> None:
    touching = [Event(0, 5, "a"), Event(5, 10, "b")]
    assert caption_quality(touching, 10.0, truncated=False)["overlaps"] == 0
    # The third starts after the second ended, but inside the first.
    inside = [Event(0, 10, "a"), Event(1, 2, "b"), Event(3, 4, "c")]
    assert caption_quality(inside, 10.0, truncated=False)["overlaps"] == 2


def test_no_events() -> None:
    assert caption_quality([], 12.5, truncated=False, joined=3, damaged_packets=2) == {
        "coverage": 0.0,
        "longest_gap_s": 12.5,
        "repeated": 0,
        "overlaps": 0,
        "out_of_range": 0,
        "truncated": False,
        "joined": 3,
        "damaged_packets": 2,
    }


def test_what_lies_past_the_end_does_not_count() -> None:
    numbers = caption_quality([Event(8, 20, "x"), Event(30, 40, "y")], 10.0, truncated=False)
    assert numbers["coverage"] == pytest.approx(0.2)
    assert numbers["longest_gap_s"] == 8.0
    assert numbers["out_of_range"] == 2
    rounded = caption_quality([Event(8, 10.0004, "x")], 10.0, truncated=False)
    assert rounded["out_of_range"] == 0


def test_a_video_without_duration_has_no_coverage() -> None:
    assert caption_quality([Event(0, 1, "x")], 0.0, truncated=False)["coverage"] == 0.0


@pytest.mark.parametrize("duration_s", [-1.0, float("nan"), float("inf")])
def test_impossible_durations_are_refused(duration_s: float) -> None:
    with pytest.raises(InputError, match="duration is"):
        caption_quality([], duration_s, truncated=False)


spans = st.tuples(st.integers(0, 40), st.integers(1, 20))


@given(st.lists(spans, max_size=6))
def test_coverage_counts_each_second_once(found: list[tuple[int, int]]) -> None:
    events = [Event(start, start + span, "x") for start, span in found]
    covered = {second for start, span in found for second in range(start, start + span)}
    gaps = "".join("x" if second in covered else "." for second in range(60)).split("x")

    numbers = caption_quality(events, 60.0, truncated=False)
    assert numbers["coverage"] == pytest.approx(len(covered) / 60)
    assert numbers["longest_gap_s"] == max(map(len, gaps))
