import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.training.evaluation.answer_reading import (
    answer_text,
    evidence_text,
    read_captions,
    read_intervals,
    read_number,
    read_option,
)


def test_official_rules_take_the_whole_response_and_strict_ones_what_follows_the_evidence() -> None:
    response = "3 - 9 </evi> The event happens in 4 - 8 ."
    assert answer_text(response, "official") == response
    assert answer_text(response, "strict") == " The event happens in 4 - 8 ."
    assert evidence_text(response) == "3 - 9 "


def test_without_an_end_of_evidence_there_is_no_strict_answer_and_no_evidence() -> None:
    assert answer_text("It happens in 4 - 8 .", "strict") is None
    assert evidence_text("It happens in 4 - 8 .") == ""


def test_all_that_a_model_without_evidence_stage_says_is_its_answer() -> None:
    said = "It happens in 4 - 8 ."
    assert answer_text(said, "strict", staged=False) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The event happens in 12.5 - 30 seconds.", ((12.5, 30.0),)),
        ("from 30 - 12", ((12.0, 30.0),)),
        ("1 - 2, 3-4 and 5 -6.", ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))),
        ("happens from 3 to 9", ((3.0, 9.0),)),
        ("3 - 9, or 10 to 12", ((3.0, 9.0),)),
        ("It starts at 5 of 60.\nIt ends at 9.", ((5.0, 9.0),)),
        ("It starts at 5.", ()),
        ("Seen at 5.\nGone at 9.", ()),
        ("7 - " + "9" * 400, ()),
        ("19 - 32...", ((19.0, 32.0),)),
        ("", ()),
    ],
)
def test_intervals(text: str, expected: tuple[tuple[float, float], ...]) -> None:
    assert read_intervals(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("at -3.5 s", -3.5), ("49 - 78", 49.0), (".5", 0.5), ("none", None), ("9" * 400, None)],
)
def test_first_number(text: str, expected: float | None) -> None:
    assert read_number(text) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("</evi>(B)", 1),
        ("</evi>C", 2),
        ("</evi>D\n", 3),
        ("3 - 5 </evi> a. opening a door", 0),
        ("</evi>Best Option: (D) pouring water", 3),
        ("</evi>best option: C, it seems", 2),
        ("B) because", 1),
        ("The answer is (C).", 2),
        ("</evi>B, not (A)", 1),
        ("</evi>(E)", None),
        ("</evi>(E) or rather (B)", 1),
        ("</evi>Because of the door", None),
        ("(A) </evi> no idea", None),
        ("</evi>", None),
    ],
)
def test_option_letter_among_four(response: str, expected: int | None) -> None:
    assert read_option(response, 4) == expected


def test_a_letter_beyond_the_options_is_read_where_there_are_enough() -> None:
    assert read_option("</evi>(E)", 5) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "5 - 9 , Cut the onions. 10 - 11 , pour oil.",
            (((5.0, 9.0), "cut the onions."), ((10.0, 11.0), "pour oil.")),
        ),
        ("9 - 5 seconds, stir the pot", (((5.0, 9.0), "stir the pot"),)),
        # Too short to be a caption: the next piece takes its interval.
        ("1 - 2, a. 3 - 4 , stir the pot.", (((1.0, 2.0), "stir the pot."),)),
        (
            "Start time: 3, end time: 8.5, description: stir the pot",
            (((3.0, 8.5), "stir the pot"),),
        ),
        ("At 30 seconds, stir the pot. At 50 seconds, serve.", (((10.0, 50.0), "stir the pot"),)),
        ("At 8 seconds, stir the pot.", (((8.0, 48.0), "stir the pot"),)),
        ("At 1:05 they stir the pot.", (((45.0, 85.0), "at 1:05 they stir the pot"),)),
        ("1:05 and 1:20 seconds, stir", (((65.0, 80.0), "stir"),)),
        ("I could not find it.", ()),
        ("", ()),
    ],
)
def test_captions(text: str, expected: tuple[tuple[tuple[float, float], str], ...]) -> None:
    assert read_captions(text) == expected


@given(st.text(alphabet="0123456789.:- tosendhapi\n,()</>secABE", max_size=60))
def test_no_text_breaks_the_reading(text: str) -> None:
    found = [*read_intervals(text), *(interval for interval, _ in read_captions(text))]
    assert all(0 <= start <= end for start, end in found)
    number, option = read_number(text), read_option(text, 4)
    assert number is None or abs(number) < float("inf")
    assert option is None or 0 <= option < 4
