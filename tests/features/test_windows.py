"""Splitting long videos into windows, and merging the results."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.errors import InputError
from vidground.features.windows import (
    Window,
    WindowEvent,
    distinct_spans,
    join_repeats,
    merge_curves,
    merge_events,
    plan_windows,
    span_seconds,
    window_samples,
)


def test_a_short_video_is_one_window() -> None:
    assert plan_windows(350, length=350, overlap=0.1) == [Window(0, 350, 0, 350)]


def test_two_windows_divide_their_overlap_in_the_middle() -> None:
    assert plan_windows(18, length=10, overlap=0.2) == [Window(0, 10, 0, 9), Window(8, 18, 9, 18)]


@given(st.integers(1, 4000), st.integers(1, 400), st.floats(0, 0.5))
def test_windows_cover_every_sample_once(samples: int, length: int, overlap: float) -> None:
    windows = plan_windows(samples, length=length, overlap=overlap)
    owned = [sample for w in windows for sample in range(w.own_start, w.own_stop)]
    assert owned == list(range(samples))
    for window in windows:
        assert 0 <= window.start <= window.own_start < window.own_stop <= window.stop <= samples
        assert len(window) <= length
    for before, after in pairwise(windows):
        # at least the requested overlap, and never so much that windows do not advance
        assert before.stop - after.start >= min(round(length * overlap), length - 1)
        assert after.start > before.start


@pytest.mark.parametrize(("samples", "length"), [(0, 5), (5, 0)])
def test_empty_videos_and_windows_are_refused(samples: int, length: int) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        plan_windows(samples, length=length, overlap=0)


TWO = plan_windows(18, length=10, overlap=0.2)  # [0, 10) and [8, 18); they share 8 and 9


def events(*spans: tuple[int, int, str, float]) -> list[WindowEvent]:
    return [WindowEvent(*span) for span in spans]


def test_windows_have_the_requested_duration_up_to_the_trained_one() -> None:
    assert window_samples(None, fps=2.0, longest=350) == 350
    assert window_samples(60.0, fps=2.0, longest=350) == 120
    assert window_samples(0.1, fps=2.0, longest=350) == 1
    assert window_samples(350.0, fps=1.0, longest=350) == 350
    with pytest.raises(InputError, match="351 frames; the model was trained on at most 350"):
        window_samples(175.5, fps=2.0, longest=350)


def test_an_event_found_in_one_window_is_kept() -> None:
    first, second = events((1, 3, "a", 0.5)), events((12, 14, "b", 0.5))
    assert merge_events(TWO, [first, second]) == first + second


def test_an_event_cut_by_the_edge_becomes_one() -> None:
    merged = merge_events(TWO, [events((6, 9, "runs", 0.6)), events((8, 13, "is running", 0.9))])
    assert merged == events((6, 13, "is running", 0.9))


def test_the_same_caption_across_the_edge_becomes_one() -> None:
    merged = merge_events(TWO, [events((2, 7, "Runs", 0.6)), events((8, 13, "runs", 0.5))])
    assert merged == events((2, 13, "Runs", 0.6))


def test_an_event_in_samples_that_another_window_owns_is_dropped() -> None:
    # The first window finds an event in samples that the second owns, where it found nothing.
    assert merge_events(TWO, [events((9, 9, "blur", 0.4)), events((14, 15, "b", 0.5))]) == events(
        (14, 15, "b", 0.5)
    )


def test_different_events_at_the_edge_are_not_merged() -> None:
    first, second = events((0, 8, "walks", 0.6)), events((9, 17, "sits", 0.5))
    assert merge_events(TWO, [first, second]) == first + second


def test_an_event_over_three_windows_is_one() -> None:
    windows = plan_windows(26, length=10, overlap=0.2)
    seen = [events((w.start, w.stop - 1, "rain", 0.5 + i / 10)) for i, w in enumerate(windows)]
    assert merge_events(windows, seen) == events((0, 25, "rain", 0.7))


def test_events_with_one_caption_that_touch_become_one() -> None:
    touching = events((0, 3, "a", 0.8), (4, 4, "A", 0.3), (9, 9, "a", 0.5), (5, 6, "b", 0.5))
    # (4 * 0.8 + 1 * 0.3) / 5 = 0.7; samples 5 to 8 are between the second and the third.
    joined = join_repeats(touching)
    assert [(e.first, e.last, e.text) for e in joined] == [(0, 4, "a"), (5, 6, "b"), (9, 9, "a")]
    assert joined[0].score == pytest.approx(0.7)
    assert joined[1:] == events((5, 6, "b", 0.5), (9, 9, "a", 0.5))


def test_equal_captions_are_merged_across_other_events() -> None:
    joined = join_repeats(events((0, 5, "a", 0.5), (2, 3, "b", 0.5), (6, 9, "a", 0.5)))
    assert joined == events((0, 9, "a", 0.5), (2, 3, "b", 0.5))
    assert join_repeats(events((0, 5, "a", 0.5), (7, 9, "a", 0.5))) == events(
        (0, 5, "a", 0.5), (7, 9, "a", 0.5)
    )
    inside = join_repeats(events((0, 9, "a", 0.5), (2, 3, "a", 0.5)))
    assert inside == events((0, 9, "a", 0.5))


def test_curves_are_joined_at_the_middle_of_the_overlap() -> None:
    assert merge_curves(TWO, [[0.0] * 10, [1.0] * 10]) == [0.0] * 9 + [1.0] * 9


def test_seconds_reach_from_first_to_last_sample() -> None:
    times = [0.0, 1.001, 2.002, 3.003]
    assert span_seconds(times, 1, 3, period_s=1, duration_s=4.004) == (1.001, 3.003)
    assert span_seconds(times, 1, 1, period_s=1, duration_s=4.004) == (1.001, 2.001)
    assert span_seconds(times, 3, 3, period_s=1, duration_s=3.5) == (3.003, 3.5)
    assert span_seconds(times, 3, 3, period_s=1, duration_s=3.003) == (3.003, 4.003)


def test_distinct_spans_keep_the_best_of_overlapping_ones() -> None:
    spans = [(0, 9, 0.5), (0, 8, 0.9), (20, 22, 0.7), (8, 12, 0.6)]
    assert distinct_spans(spans) == [(0, 8, 0.9), (20, 22, 0.7), (8, 12, 0.6)]
