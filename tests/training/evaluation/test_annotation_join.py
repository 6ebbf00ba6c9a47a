"""Predictions whose samples are stored separately."""

from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.annotation_join import join_annotations
from vidground.training.evaluation.questions import Question


def question(idx: int, task: str = "tvg") -> Question:
    fields = {"task": task, "source": "s", "idx": idx, "video": "v.mp4", "q": "when?"}
    return Question(fields, task, "s", idx, "v.mp4", "when?")


ANNOTATED = [question(0), question(1), question(1, "epm")]


def test_fields_of_the_sample_replace_those_of_the_prediction() -> None:
    item = {"task": "tvg", "source": "s", "idx": 1, "a": "1 - 2", "q": "what?", "found": True}
    joined = join_annotations([("p", item)], ANNOTATED)
    assert joined.lines == ({**ANNOTATED[1].fields, "a": "1 - 2", "found": True},)
    assert joined.unanswered == 2


def test_a_number_is_enough_where_it_is_unique() -> None:
    assert join_annotations([("p", {"idx": 0, "a": ""})], ANNOTATED).lines[0]["task"] == "tvg"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ([], "is a list"),
        ({"idx": 1, "a": ""}, "2 samples have this number"),
        ({"idx": 7, "a": ""}, "no sample in the annotations has this number"),
        ({"a": ""}, "names idx None only"),
        ({"task": "tvg", "source": "t", "idx": 0}, "answers tvg t idx 0, which is not"),
        ({"task": "tvg", "source": "s", "idx": []}, "which is not in the annotations"),
        ({"task": "tvg", "source": "s", "idx": 0, "video": "w.mp4"}, "is about 'w.mp4'"),
    ],
)
def test_predictions_without_a_sample_are_refused(item: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"^p: .*{reason}"):
        join_annotations([("p", item)], ANNOTATED)
