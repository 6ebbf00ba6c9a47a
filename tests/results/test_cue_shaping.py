"""Shaping: wrapping, splitting, extending; spans are shared and never shortened without a word."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.results.cue_shaping import leave_gaps, merge, shape_cues, trim
from vidground.results.cues import Cue, CueSettings, by_time, to_cues
from vidground.results.types import Event


def shape(cues: list[Cue], duration_s: float = 100.0, **settings: object) -> list[Cue]:
    return shape_cues(cues, CueSettings(**settings), duration_s, rate=Fraction(24))  # type: ignore[arg-type]


def test_lines_break_between_words_and_inside_only_too_wide_ones() -> None:
    cue = Cue(0, 9000, "a well-known man runs extraordinarily")
    assert shape([cue], max_line_width=10)[0].text.split("\n") == [
        "a",
        "well-known",
        "man runs e",
        "xtraordina",
        "rily",
    ]


def test_a_last_line_of_digits_keeps_a_word_for_company() -> None:
    assert shape([Cue(0, 9, "player number 10")], max_line_width=13)[0].text == "player\nnumber 10"
    # Where the word does not fit, the width goes first.
    assert shape([Cue(0, 9, "a number 1000")], max_line_width=8)[0].text == "a number\n1000"


def test_more_lines_than_allowed_share_the_span_by_their_length() -> None:
    # Lines of 4, 4, 4 and 2 characters, two per cue: 9 ("aaaa\nbbbb") and 7 ("cccc\ndd") of 16.
    cue = Cue(1000, 2600, "aaaa bbbb cccc dd", 0.25)
    assert shape([cue], max_line_width=4, max_line_count=2) == [
        Cue(1000, 1900, "aaaa\nbbbb", 0.25),
        Cue(1900, 2600, "cccc\ndd", 0.25),
    ]


def test_a_span_too_short_for_its_parts_gets_fewer() -> None:
    assert shape([Cue(0, 2, "a b c d e")], max_line_width=1, max_line_count=1) == [
        Cue(0, 1, "a\nb\nc"),
        Cue(1, 2, "d\ne"),
    ]


@pytest.mark.parametrize("text", ["a bbbbbbbbbbbbb", "aaaaaaaaaaaaa b"])
def test_every_part_lasts_a_millisecond_at_least(text: str) -> None:
    # 2 ms shared 1 : 13 would round to 0 and 2.
    parts = shape([Cue(7, 9, text)], max_line_width=13, max_line_count=1)
    assert [(part.start_ms, part.end_ms) for part in parts] == [(7, 8), (8, 9)]


def test_a_long_cue_becomes_equal_cues_that_repeat_the_text() -> None:
    assert shape([Cue(0, 10_000, "x")], max_duration_s=4) == [
        Cue(0, 3333, "x"),
        Cue(3333, 6666, "x"),
        Cue(6666, 10_000, "x"),
    ]
    assert shape([Cue(0, 4000, "x")], max_duration_s=4) == [Cue(0, 4000, "x")]


def test_a_short_cue_is_extended_to_the_next_cue_or_the_end_at_most() -> None:
    cues = [Cue(0, 500, "free"), Cue(5000, 5500, "next is near"), Cue(6000, 6100, "end is near")]
    assert shape(cues, duration_s=7.0, min_duration_s=2) == [
        Cue(0, 2000, "free"),
        Cue(5000, 6000, "next is near"),
        Cue(6000, 7000, "end is near"),
    ]


def test_extending_never_shortens() -> None:
    overlapping = [Cue(0, 500, "a"), Cue(100, 3000, "b"), Cue(2000, 2001, "past the end")]
    assert shape(overlapping, duration_s=1.0, min_duration_s=2) == overlapping


def test_an_event_without_text_shows_an_ellipsis() -> None:
    assert shape(to_cues([Event(0, 1, " \x00\n")])) == [Cue(0, 1000, "…")]


def test_overlaps_go_before_wrapping() -> None:
    cues = [Cue(0, 9000, "aaaa bbbb"), Cue(3000, 6000, "cc")]
    assert shape(cues, max_line_width=6, overlap="trim") == [
        Cue(0, 3000, "aaaa\nbbbb"),
        Cue(3000, 6000, "cc"),
    ]
    assert shape(cues, max_line_width=6, overlap="merge") == [
        Cue(0, 3000, "aaaa\nbbbb"),
        Cue(3000, 6000, "- aaaa\nbbbb\n- cc"),
        Cue(6000, 9000, "aaaa\nbbbb"),
    ]


def test_plain_does_what_is_said_and_nothing_else() -> None:
    cues = [Cue(0, 100, "x" * 99), Cue(50, 90_000, "a b")]
    assert shape(cues) == shape(cues, style="plain", overlap="keep") == cues


def test_netflix_fills_in_what_is_not_said() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    shaped = shape([Cue(0, 2000, words), Cue(1000, 1100, "x")], style="netflix")
    # Trimmed to 1 s less 2 frames at 24 frames per second, 83.3 ms; "x" lasts 5/6 s.
    assert shaped == [
        Cue(
            0,
            916,
            "one two three four five six seven eight\nnine ten eleven twelve thirteen fourteen",
        ),
        Cue(1000, 1833, "x"),
    ]
    (first, second) = shape([Cue(0, 8000, "long")], style="netflix")
    assert (first, second) == (Cue(0, 3916, "long"), Cue(4000, 8000, "long"))
    kept = shape([Cue(0, 2000, words), Cue(1000, 3000, "x")], style="netflix", overlap="keep")
    assert [(cue.start_ms, cue.end_ms) for cue in kept] == [(0, 2000), (1000, 3000)]
    narrow = shape([Cue(0, 9000, "aa bb")], style="netflix", max_line_width=3, max_duration_s=10)
    assert narrow == [Cue(0, 9000, "aa\nbb")]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 200)), max_size=6))
def test_netflix_never_shows_two_cues_and_leaves_two_frames_where_there_is_room(
    spans: list[tuple[int, int]],
) -> None:
    cues = to_cues(Event(start / 10, (start + length) / 10, "x y") for start, length in spans)
    shaped = shape(cues, duration_s=60.0, style="netflix")
    assert all(5000 / 6 - 84 <= cue.end_ms - cue.start_ms <= 7000 for cue in shaped[-1:])
    assert all(cue.end_ms - cue.start_ms <= 7000 for cue in shaped)
    for cue, later in itertools.pairwise(shaped):
        # Tenths of a second leave room for two gaps of 84 ms, or for none of them.
        long = later.start_ms - cue.start_ms >= 168
        assert later.start_ms - cue.end_ms >= (84 if long else 0)
    assert {cue.start_ms for cue in cues} <= {cue.start_ms for cue in shaped}


@st.composite
def events(draw: st.DrawFn) -> Event:
    start_s = draw(st.floats(0, 100))
    return Event(
        start_s,
        start_s + draw(st.floats(0.11, 60) | st.floats(1e-9, 0.1)),
        draw(st.text(max_size=60)),
    )


@st.composite
def settings(draw: st.DrawFn) -> CueSettings:
    width = draw(st.none() | st.integers(1, 12))
    shortest = draw(st.none() | st.floats(0.01, 5))
    return CueSettings(
        width,
        draw(st.none() | st.integers(1, 3)) if width else None,
        shortest,
        draw(st.none() | st.floats(max(shortest or 0, 0.5), 20)),
        draw(st.sampled_from([None, "keep", "trim", "merge"])),
    )


@given(st.lists(events(), max_size=5), settings(), st.floats(0, 200))
def test_shaped_cues_are_valid_and_sorted(
    found: list[Event], shaping: CueSettings, duration_s: float
) -> None:
    shaped = shape_cues(to_cues(found), shaping, duration_s, rate=Fraction(25))

    assert all(0 <= cue.start_ms < cue.end_ms for cue in shaped)
    assert all(
        (a.start_ms, a.end_ms) <= (b.start_ms, b.end_ms) for a, b in itertools.pairwise(shaped)
    )
    for cue in shaped:
        assert all(line.strip() for line in cue.text.split("\n"))
        if shaping.max_line_width:
            assert max(map(len, cue.text.split("\n"))) <= shaping.max_line_width
        # 60 characters make 60 parts at most, which 0.1 s can hold; cut events may be shorter.
        uncut = shaping.overlap in {None, "keep"}
        if shaping.max_line_count and uncut and all(e.end_s - e.start_s > 0.1 for e in found):
            assert cue.text.count("\n") < shaping.max_line_count
        if shaping.max_duration_s:
            assert cue.end_ms - cue.start_ms <= round(shaping.max_duration_s * 1000)
    if shaping.overlap in {"trim", "merge"}:
        assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(shaped))


@given(events(), settings())
def test_the_parts_of_one_event_cover_its_span_and_say_its_text(
    event: Event, shaping: CueSettings
) -> None:
    (cue,) = to_cues([event])
    parts = shape_cues([cue], shaping, 1000.0, rate=Fraction(25))

    assert parts[0].start_ms == cue.start_ms
    assert parts[-1].end_ms >= cue.end_ms
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(parts))
    if shaping.max_duration_s is None:
        said = "".join(part.text for part in parts)
        assert "".join(said.split()) == ("".join(cue.text.split()) or "…")


# --- overlaps and gaps -------------------------------------------------------------------------

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
