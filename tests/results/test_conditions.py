"""Conditions on results, by hand."""

from dataclasses import replace

import pytest

from tests.helpers.result_makers import ASKED, TWO, VIDEO, answer, captions
from vidground.errors import InputError
from vidground.results.conditions import Condition, first_objection, measure, parse_conditions
from vidground.results.quality import caption_quality
from vidground.results.types import Groundings, Moment

QUALITY = caption_quality(TWO.events, 4.5, truncated=True)
KNOWN = replace(TWO, quality=QUALITY, warnings=("a", "b"))


def test_conditions_are_read() -> None:
    assert parse_conditions("empty, coverage<0.5,gap >= 30") == (
        Condition("empty"),
        Condition("coverage", "<", 0.5),
        Condition("gap", ">=", 30.0),
    )
    assert [str(c) for c in parse_conditions("empty,coverage<=.5")] == ["empty", "coverage<=0.5"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("blank", "'blank' is not a condition; give one of empty, truncated"),
        ("", "'' is not a condition"),
        ("coverage", "the condition coverage needs a limit"),
        ("coverage<half", "limit of 'coverage<half' is 'half'; it must be a number"),
        ("gap>nan", "it must be a number"),
        ("coverage=0.5", "is not a condition"),
    ],
)
def test_what_means_nothing_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse_conditions(text)


def test_measures_of_captions_by_hand() -> None:
    # [0, 1.25) and [1.5, 4) of 4.5 s; the longest gap is [4, 4.5).
    expected = {
        "empty": 0,
        "events": 2,
        "truncated": 1,
        "damaged": 0,
        "warnings": 2,
        "coverage": 3.75 / 4.5,
        "gap": 0.5,
        "repeats": 0,
        "overlaps": 0,
        "out-of-range": 0,
    }
    assert {name: measure(KNOWN, name) for name in expected} == pytest.approx(expected)
    damaged = replace(TWO, video=replace(VIDEO, damaged_packets=7))
    assert measure(damaged, "damaged") == 7
    assert measure(captions(), "empty") == 1
    assert measure(TWO, "coverage") is None  # of an older version, without numbers


def test_measures_of_groundings() -> None:
    assert measure(ASKED, "events") == 2
    assert measure(ASKED, "empty") == 0
    assert measure(Groundings((answer("a"),)), "empty") == 1
    cut = Groundings((answer("a"), answer("b", Moment(0, 1, 0.5), quality={"truncated": True})))
    assert measure(cut, "truncated") == 1
    assert measure(cut, "coverage") is None


def test_objections_name_condition_and_value() -> None:
    conditions = parse_conditions("empty,coverage<0.9,truncated")
    assert first_objection(conditions, KNOWN) == (
        "refused by --fail-on coverage<0.9: share of the video that lies in an event, "
        "from 0 to 1: 0.8333"
    )
    assert first_objection(parse_conditions("coverage<0.5,repeats,gap>0.5"), KNOWN) is None
    assert first_objection(parse_conditions("coverage<0.5,gap>=0.5"), KNOWN) is not None
    assert first_objection(parse_conditions("gap<=0.5"), KNOWN) is not None
    assert first_objection(parse_conditions("gap<0.5"), KNOWN) is None
    assert first_objection(parse_conditions("coverage<0.9"), TWO) is None
