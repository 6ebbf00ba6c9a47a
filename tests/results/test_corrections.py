"""Corrections: what is unchanged stays exact, and what was changed is marked."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.helpers.result_makers import ASKED, TWO, answer, any_events, captions
from vidground.errors import FormatError
from vidground.results.corrections import correct
from vidground.results.cues import Cue
from vidground.results.formats import from_dict, render, to_dict
from vidground.results.subtitle_reading import read_cues
from vidground.results.types import Captions, Event, Groundings, Moment, Relevance


@pytest.mark.parametrize("format", ["srt", "vtt"])
@given(events=any_events(last_s=200 * 3600.0))
@settings(max_examples=50)
def test_subtitles_that_nobody_changed_give_the_same_result(
    tmp_path_factory: pytest.TempPathFactory, format: str, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("same") / f"a.{format}"
    # A brace and a backslash are styling in SRT, and removed.
    events = [replace(event, text=event.text.replace("{", "")) for event in events]
    result = captions(*events)
    path.write_text(render(result, format), encoding="utf-8")
    assert correct(result, read_cues(path)) == result


def test_only_what_was_changed_loses_its_exact_times_and_score() -> None:
    result = captions(
        Event(0.12345, 1.23456, "same", 0.9),
        Event(2.00049, 3.00049, "text", 0.8),
        Event(4.00049, 5.00049, "times", 0.7),
        Event(6, 7, "removed", 0.6),
        quality={"truncated": True, "joined": 3, "coverage": 0.5},
        warnings=("cut off",),
        answers=("raw",),
    )
    cues = [
        Cue(123, 1235, "same"),
        Cue(2000, 3000, "another text"),
        Cue(3500, 5000, "times"),
        Cue(8000, 9000, "added\nin two lines"),
    ]
    corrected = correct(result, cues)
    assert isinstance(corrected, Captions)
    assert corrected.events == (
        Event(0.12345, 1.23456, "same", 0.9),
        Event(2.00049, 3.00049, "another text"),
        Event(3.5, 5.00049, "times"),
        Event(8.0, 9.0, "added in two lines"),
    )
    assert corrected.provenance == replace(result.provenance, corrected=True)
    assert (corrected.answers, corrected.warnings) == (result.answers, result.warnings)
    assert corrected.quality["truncated"] is True
    assert (corrected.quality["joined"], corrected.quality["out_of_range"]) == (3, 2)
    assert from_dict(to_dict(corrected)) == corrected
    assert "corrected" not in to_dict(result)["provenance"]


def test_a_corrected_moment_has_the_relevance_of_its_frames() -> None:
    relevance = Relevance((0.0, 1.0, 2.0, 3.0), (0.1, 0.7, 0.9, 0.2))
    result = Groundings(
        (
            answer("a goal", Moment(0.0, 1.0, 0.6), relevance=relevance),
            answer("a card", relevance=relevance),
            answer("a foul", Moment(2.0, 3.0, 0.9), relevance=relevance),
        )
    )
    cues = [Cue(0, 1000, "a goal"), Cue(1000, 3000, "a goal"), Cue(3100, 3200, "a card")]
    corrected = correct(result, cues)
    assert isinstance(corrected, Groundings)
    goal, card, foul = corrected.results
    assert [(m.start_s, m.end_s) for m in goal.moments] == [(1.0, 3.0), (0.0, 1.0)]
    assert [m.score for m in goal.moments] == pytest.approx([0.8, 0.6])
    # No frame lies in it; the nearest one is that at 3 s.
    assert (card.found, card.moments) == (True, (Moment(3.1, 3.2, 0.2),))
    assert (foul.found, foul.moments) == (False, ())
    assert all(one.provenance.corrected for one in corrected)
    assert from_dict(to_dict(corrected)) == corrected


def test_a_corrected_moment_of_matched_frames_has_no_score() -> None:
    asked = answer("a goal", Moment(0.0, 1.0, 0.6))
    made = replace(asked.provenance, runtime={"time_tokens": "matching"})
    result = Groundings((replace(asked, provenance=made),))
    corrected = correct(result, [Cue(0, 1000, "a goal"), Cue(1000, 3000, "a goal")])
    assert isinstance(corrected, Groundings)
    assert [m.score for m in corrected.results[0].moments] == [0.6, None]


def test_answers_that_nobody_changed_stay_as_they_are() -> None:
    cues = [Cue(0, 1000, "a goal"), Cue(2000, 4000, "a goal"), Cue(1000, 1500, "a card")]
    corrected = correct(ASKED, cues)
    assert isinstance(corrected, Groundings)
    assert corrected.results[0] == ASKED.results[0]
    assert [one.provenance.corrected for one in corrected] == [False, True]
    assert from_dict(to_dict(corrected)) == corrected


def test_a_cue_that_names_no_query_is_refused() -> None:
    with pytest.raises(FormatError, match=r"00:00:01.000 says 'x', .* \('a goal', 'a card'\)"):
        correct(ASKED, [Cue(1000, 2000, "x")])


def test_an_older_result_has_no_marker() -> None:
    document = to_dict(TWO)
    assert "corrected" not in document["provenance"]
    read = from_dict(document)
    assert read.provenance.corrected is False  # type: ignore[union-attr]
