"""E.T. Instruct's two forms become one: `<evi>` for an interval, its seconds in `tgt`."""

from typing import Any

import pytest

from tests.helpers.annotation_files import sft_sample, turns
from vidground.training.data.annotation_fields import FieldError
from vidground.training.data.annotations import check_samples
from vidground.training.data.conversion.et_instruct import evidence_sample


def sample(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    common = {"task": "slc", "source": "how_to_step", "video": "a/b.mp4", "duration": 200.767}
    return {**common, **fields, "conversations": turns(f"<image>\n{question}", answer)}


def converted(*args: str, **fields: Any) -> tuple[str, str, Any, Any]:
    made = evidence_sample(sample(*args, **fields))
    assert check_samples([made]).problems == ()
    question, answer = (turn["value"] for turn in made["conversations"])
    return question.removeprefix("<image>\n"), answer, made.get("src"), made.get("tgt")


STEPS = ("<evi><evi></evi><evi>, add 36 eggs. <evi>, stir.", [36.0, 44.0, 49.0, 57.5])


def test_both_forms_of_a_sample_are_equal() -> None:
    times = {"tgt": [36, 44, 49, 57.5]}
    tokens = converted("All steps?", "<vid> - <vid>, add 36 eggs. <vid> - <vid>, stir.", **times)
    text = "36.0 - 44.0 seconds, add 36 eggs. 49.0 - 57.5 seconds, stir."
    assert (
        tokens == converted("All steps?", text, **times) == ("All steps?", STEPS[0], None, STEPS[1])
    )


@pytest.mark.parametrize("times", ["<vid> - <vid>", "12.0s to 18.0s", "12 - 18 seconds"])
def test_an_interval_of_the_question(times: str) -> None:
    found = converted(f"What happens in {times}, once?", "A dog barks.", src=[12, 18])
    assert found == ("What happens in <evi>, once?", "</evi>A dog barks.", [12.0, 18.0], None)


@pytest.mark.parametrize("time", ["<vid>", "7.3 seconds"])
def test_a_time_on_its_own_is_an_instant(time: str) -> None:
    _, answer, _, tgt = converted("When?", f"The highlight is at {time}.", tgt=[7.34])
    assert (answer, tgt) == ("<evi></evi>The highlight is at <evi>.", [7.34, 7.34])


def test_reversed_times_are_swapped() -> None:
    assert converted("When?", "In <vid> - <vid>.", tgt=[9, 4])[3] == [4.0, 9.0]


def test_the_evidence_form_stays() -> None:
    for done in (sft_sample(), sft_sample(tgt=None, conversations=turns("a", "</evi>b"))):
        assert evidence_sample(done) == done


@pytest.mark.parametrize(
    ("answer", "tgt", "reason"),
    [
        ("In <vid> - <vid>.", [1], "the answer holds <vid> 2 times and 1 times are listed"),
        ("In 3 - 4 s.", [3, 5], "names 1 of the 2 listed times; 5 s is the first"),
        ("Later.", [3, 5], "names 0 of the 2"),
    ],
)
def test_times_that_do_not_match_are_named(answer: str, tgt: list[float], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        evidence_sample(sample("When?", answer, tgt=tgt))
