"""Cues: rounding, order, what settings may say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.errors import InputError
from vidground.results.cues import Cue, CueSettings, clock, to_cues
from vidground.results.types import Event

TWO_HUNDRED_HOURS = 200 * 3600.0


def test_times_are_rounded_once_and_sorted() -> None:
    events = [Event(2.0004, 3.0006, "b"), Event(1.9996, 2.5, "a"), Event(2.0, 2.9, "c")]
    assert to_cues(events) == [
        Cue(2000, 2500, "a"),
        Cue(2000, 2900, "c"),
        Cue(2000, 3001, "b"),
    ]


def test_an_event_that_rounds_to_nothing_lasts_one_millisecond() -> None:
    assert to_cues([Event(5.0001, 5.0002, "x", 0.5)]) == [Cue(5000, 5001, "x", 0.5)]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "00:00:00,000"), (3_723_004, "01:02:03,004"), (360_000_000, "100:00:00,000")],
)
def test_clock(milliseconds: int, text: str) -> None:
    assert clock(milliseconds, ",") == text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_line_width": 0}, "max_line_width is 0; it must be at least 1"),
        ({"max_line_width": 9, "max_line_count": 0}, "max_line_count is 0"),
        ({"max_line_count": 2}, "needs max_line_width"),
        ({"min_duration_s": 0.0}, "min_duration_s is 0.0; it must be above 0"),
        ({"min_duration_s": float("nan")}, "min_duration_s is nan"),
        ({"max_duration_s": 0.05}, "at least 0.1 seconds"),
        ({"max_duration_s": 2.0, "min_duration_s": 3.0}, r"not below min_duration_s \(3.0\)"),
        ({"style": "netflix", "min_duration_s": 8.0}, r"max_duration_s is 7.0.*\(8.0\)"),
        ({"style": "Netflix"}, "style is 'Netflix'; it must be one of plain, netflix"),
        ({"overlap": "cut"}, "overlap is 'cut'; it must be one of keep, trim, merge"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        CueSettings(**settings)


def test_a_style_fills_in_what_is_none() -> None:
    assert CueSettings().resolved() == CueSettings(overlap="keep")
    assert CueSettings(style="netflix", max_line_count=1, overlap="merge").resolved() == (
        CueSettings(42, 1, 5 / 6, 7.0, "merge", "netflix")
    )
    assert (CueSettings().gap_frames, CueSettings(style="netflix").gap_frames) == (0, 2)


@given(st.floats(0, TWO_HUNDRED_HOURS), st.floats(1e-6, TWO_HUNDRED_HOURS))
def test_rounding_moves_a_time_by_half_a_millisecond_at_most(start_s: float, span_s: float) -> None:
    end_s = start_s + span_s
    if end_s <= start_s:
        return
    (cue,) = to_cues([Event(start_s, end_s, "x")])
    assert abs(cue.start_ms - start_s * 1000) <= 0.5
    assert cue.start_ms < cue.end_ms
    assert abs(cue.end_ms - end_s * 1000) <= 1.5
