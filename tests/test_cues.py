"""Cues: rounding, order, wrapping, splitting, extending; spans are shared and never shortened."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.cues import Cue, CueSettings, clock, shape_cues, to_cues
from vidground.errors import InputError
from vidground.types import Event

TWO_HUNDRED_HOURS = 200 * 3600.0


def shape(cues: list[Cue], duration_s: float = 100.0, **settings: float) -> list[Cue]:
    return shape_cues(cues, CueSettings(**settings), duration_s)  # type: ignore[arg-type]


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
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        CueSettings(**settings)  # type: ignore[arg-type]


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
    )


@given(st.lists(events(), max_size=5), settings(), st.floats(0, 200))
def test_shaped_cues_are_valid_and_sorted(
    found: list[Event], shaping: CueSettings, duration_s: float
) -> None:
    shaped = shape_cues(to_cues(found), shaping, duration_s)

    assert all(0 <= cue.start_ms < cue.end_ms for cue in shaped)
    assert all(
        (a.start_ms, a.end_ms) <= (b.start_ms, b.end_ms) for a, b in itertools.pairwise(shaped)
    )
    for cue in shaped:
        assert all(line.strip() for line in cue.text.split("\n"))
        if shaping.max_line_width:
            assert max(map(len, cue.text.split("\n"))) <= shaping.max_line_width
        # 60 characters make 60 parts at most, which 0.1 s can hold.
        if shaping.max_line_count and all(event.end_s - event.start_s > 0.1 for event in found):
            assert cue.text.count("\n") < shaping.max_line_count
        if shaping.max_duration_s:
            assert cue.end_ms - cue.start_ms <= round(shaping.max_duration_s * 1000)


@given(events(), settings())
def test_the_parts_of_one_event_cover_its_span_and_say_its_text(
    event: Event, shaping: CueSettings
) -> None:
    (cue,) = to_cues([event])
    parts = shape_cues([cue], shaping, 1000.0)

    assert parts[0].start_ms == cue.start_ms
    assert parts[-1].end_ms >= cue.end_ms
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(parts))
    if shaping.max_duration_s is None:
        said = "".join(part.text for part in parts)
        assert "".join(said.split()) == ("".join(cue.text.split()) or "…")


@given(st.floats(0, TWO_HUNDRED_HOURS), st.floats(1e-6, TWO_HUNDRED_HOURS))
def test_rounding_moves_a_time_by_half_a_millisecond_at_most(start_s: float, span_s: float) -> None:
    end_s = start_s + span_s
    if end_s <= start_s:
        return
    (cue,) = to_cues([Event(start_s, end_s, "x")])
    assert abs(cue.start_ms - start_s * 1000) <= 0.5
    assert cue.start_ms < cue.end_ms
    assert abs(cue.end_ms - end_s * 1000) <= 1.5
