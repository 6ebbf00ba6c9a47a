"""Which events are cut out, and names of clips that nothing hostile gets through."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import ASKED, answer, captions
from vidground.errors import InputError
from vidground.media.clip_selection import ChoiceSettings, choose_events, clip_name, file_stem
from vidground.results.types import Event, Groundings, Moment

SCORED = captions(
    Event(5.0, 6.0, "e", 0.4),
    Event(1.0, 2.0, "a", 0.9),
    Event(3.0, 4.0, "c"),
    Event(2.0, 3.0, "b", 0.4),
    Event(4.0, 5.0, "d", 0.6),
)


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        (ChoiceSettings(), "abcde"),
        (ChoiceSettings(min_score=0.4), "abde"),
        (ChoiceSettings(min_score=0.5), "ad"),
        (ChoiceSettings(limit=2), "ad"),
        (ChoiceSettings(limit=3), "ade"),  # of equal scores the one that the result names first
        (ChoiceSettings(limit=4), "abde"),
        (ChoiceSettings(limit=9), "abcde"),
        (ChoiceSettings(min_score=0.4, limit=1), "a"),
    ],
)
def test_events_are_chosen_by_score_and_put_in_order(settings: ChoiceSettings, texts: str) -> None:
    chosen = choose_events(SCORED, settings, duration_s=10.0)
    assert "".join(event.text for event in chosen) == texts


def test_padding_ends_with_the_video() -> None:
    two = captions(Event(0.5, 1.0, "a"), Event(8.0, 9.5, "b"), Event(11.0, 12.0, "c"))
    padded = choose_events(two, ChoiceSettings(padding_s=1.0), duration_s=10.0)
    assert [(e.start_s, e.end_s) for e in padded] == [(0.0, 2.0), (7.0, 10.0), (10.0, 13.0)]


def test_a_query_is_found_in_any_case() -> None:
    both = Groundings((*ASKED.results, answer("a card", Moment(3.0, 4.0, 0.8))))
    chosen = choose_events(both, ChoiceSettings(query=" A  CARD"), duration_s=10.0)
    assert [(e.start_s, e.text) for e in chosen] == [(3.0, "a card")]
    assert len(choose_events(both, ChoiceSettings(), duration_s=10.0)) == 3


def test_a_query_that_found_nothing_gives_nothing() -> None:
    assert choose_events(ASKED, ChoiceSettings(query="a card"), duration_s=10.0) == []


@pytest.mark.parametrize(
    ("result", "settings", "reason"),
    [
        (
            ASKED,
            ChoiceSettings(query="a dog"),
            "'a dog' was not asked; choose from: a goal; a card",
        ),
        (SCORED, ChoiceSettings(query="a dog"), "holds captions, not queries"),
        (captions(Event(0, 1, "a")), ChoiceSettings(min_score=0.1), "have no scores"),
    ],
)
def test_impossible_choices_are_refused(
    result: Groundings, settings: ChoiceSettings, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        choose_events(result, settings, duration_s=10.0)


@pytest.mark.parametrize(
    "values", [{"padding_s": -1.0}, {"padding_s": float("nan")}, {"min_score": 1.5}, {"limit": 0}]
)
def test_settings_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be"):
        ChoiceSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red circle.", "match_001_00-01-23.400_a-red-circle.mp4"),
        ("../../etc/passwd", "match_001_00-01-23.400_etc-passwd.mp4"),
        ("-y $(rm -rf ~) %d;'\"\n[x]", "match_001_00-01-23.400_y-rm-rf-d-x.mp4"),
        ("\x1b[31m红色 Kreis, cafe\u0301", "match_001_00-01-23.400_红色-kreis-café.mp4"),
        ("हिन्दी", "match_001_00-01-23.400_हिन्दी.mp4"),
        ("…", "match_001_00-01-23.400.mp4"),
        ("x" * 300, "match_001_00-01-23.400_" + "x" * 80 + ".mp4"),
    ],
)
def test_names_of_clips(text: str, name: str) -> None:
    assert clip_name("match", 1, Event(83.4, 90.0, text), ".mp4") == name


@given(st.text(), st.text(), st.floats(0, 1e6))
def test_any_name_is_short_and_plain(stem: str, text: str, start_s: float) -> None:
    name = clip_name(file_stem(stem), 1000, Event(start_s, start_s + 1, text), ".webm")
    assert len(name.encode()) <= 255
    assert name.isprintable()
    assert name[0] not in "-._"
    assert re.fullmatch(r"[^\W_].*_1000_\d+-\d\d-\d\d\.\d{3}(_[^\s/\\:]+)?\.webm", name)


def test_names_without_letters_get_a_default_stem() -> None:
    assert file_stem("\udcff\udcfe") == "video"
    assert file_stem("-.match 1.2%d") == "match-1-2-d"
