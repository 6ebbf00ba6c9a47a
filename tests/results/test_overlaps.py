"""Overlaps: at most one cue at a time, and gaps between them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vidground.results.cues import Cue, by_time
from vidground.results.overlaps import leave_gaps, merge, trim

SPANS = st.tuples(st.integers(0, 40), st.integers(1, 20), st.sampled_from("abc"))


def cues_of(spans: list[tuple[int, int, str]]) -> list[Cue]:
    return by_time(Cue(start, start + length, text) for start, length, text in spans)


def shown(cues: list[Cue], time: int) -> set[str]:
    """The texts that are to be seen at a time."""
    lines = [line for c in cues if c.start_ms <= time < c.end_ms for line in c.text.split("\n")]
    return {line.removeprefix("- ") for line in lines}


def test_trim_ends_a_cue_where_the_next_begins() -> None:
    cues = [Cue(0, 9, "long", 0.5), Cue(2, 4, "inside"), Cue(4, 6, "a"), Cue(4, 8, "b")]
    assert trim(cues) == [Cue(0, 2, "long", 0.5), Cue(2, 4, "inside"), Cue(4, 8, "- a\n- b")]
    assert trim([]) == []


def test_merge_shows_all_texts_where_cues_overlap() -> None:
    cues = [Cue(0, 10, "a"), Cue(5, 15, ""), Cue(15, 20, "b"), Cue(15, 20, "b")]
    assert merge(cues) == [
        Cue(0, 5, "a"),
        Cue(5, 10, "- a\n- …"),
        Cue(10, 15, ""),
        Cue(15, 20, "b"),
    ]


def test_merge_joins_what_touches_and_shows_the_same() -> None:
    assert merge([Cue(0, 10, "a"), Cue(5, 15, "a"), Cue(16, 17, "a")]) == [
        Cue(0, 15, "a"),
        Cue(16, 17, "a"),
    ]


@given(st.lists(SPANS, max_size=8))
def test_merge_shows_every_text_for_its_whole_span(spans: list[tuple[int, int, str]]) -> None:
    cues = cues_of(spans)
    merged = merge(cues)
    assert [shown(merged, time) for time in range(61)] == [shown(cues, t) for t in range(61)]
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(merged))


@given(st.lists(SPANS, max_size=8))
def test_trim_loses_no_start_and_shows_nothing_that_is_not_there(
    spans: list[tuple[int, int, str]],
) -> None:
    cues = cues_of(spans)
    trimmed = trim(cues)
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(trimmed))
    assert [cue.start_ms for cue in trimmed] == sorted({cue.start_ms for cue in cues})
    for cue in cues:
        assert cue.text in shown(trimmed, cue.start_ms)


def test_gaps_are_left_where_there_is_room() -> None:
    cues = [Cue(0, 100, "a"), Cue(100, 115, "b"), Cue(115, 300, "c"), Cue(305, 306, "d")]
    assert leave_gaps(cues, 10) == [
        Cue(0, 90, "a"),
        Cue(100, 115, "b"),  # 5 ms would be left
        Cue(115, 295, "c"),
        Cue(305, 306, "d"),
    ]
    overlapping = [Cue(0, 100, "a"), Cue(50, 200, "b")]
    assert leave_gaps(overlapping, 10) == overlapping
    assert leave_gaps([], 10) == []
