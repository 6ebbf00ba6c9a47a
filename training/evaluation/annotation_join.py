"""Join predictions with annotations that are stored separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidground.errors import InputError
from vidground.training.evaluation.questions import Question

_NAMING = ("task", "source", "idx")


@dataclass(frozen=True, slots=True)
class JoinedPredictions:
    """Predictions with the fields of their samples.

    Attributes:
        lines: in the order of the predictions.
        unanswered: number of samples without a prediction.
    """

    lines: tuple[Mapping[str, Any], ...]
    unanswered: int


def join_annotations(
    predictions: Sequence[tuple[str, Any]], questions: Sequence[Question]
) -> JoinedPredictions:
    """Return predictions with the fields of the samples that they answer.

    A prediction names its sample by `task`, `source` and `idx`, or by `idx` alone where no two
    samples share a number. The sample's fields take the place of the prediction's own.

    Args:
        predictions: the objects, each with its name for errors; `a` is the response.
        questions: the annotated samples.

    Raises:
        InputError: a prediction has no sample, or is about another video than its sample.
    """
    by_key = {question.key: question for question in questions}
    by_number: dict[int, list[Question]] = {}
    for question in questions:
        by_number.setdefault(question.idx, []).append(question)
    lines, answered = [], set()
    for name, item in predictions:
        if not isinstance(item, Mapping):
            raise InputError(f"{name}: is a {type(item).__name__}; a prediction is an object")
        question = _sample_of(item, name, by_key, by_number)
        video = item.get("video", question.video)
        if video != question.video:
            raise InputError(
                f"{name}: is about {video!r}, and its sample in the annotations about "
                f"{question.video!r}; use the annotations that the predictions were made from"
            )
        answered.add(question.key)
        lines.append({**item, **question.fields})
    return JoinedPredictions(tuple(lines), len(by_key) - len(answered))


def _sample_of(
    item: Mapping[str, Any],
    name: str,
    by_key: Mapping[tuple[Any, ...], Question],
    by_number: Mapping[int, Sequence[Question]],
) -> Question:
    named = [item.get(field) for field in _NAMING]
    if named[0] is None and named[1] is None:
        found = by_number.get(named[2], ()) if isinstance(named[2], int) else ()
        if len(found) == 1:
            return found[0]
        state = f"{len(found)} samples have" if found else "no sample in the annotations has"
        raise InputError(
            f"{name}: names idx {named[2]!r} only, and {state} this number; give task, source "
            "and idx"
        )
    question = by_key.get(tuple(named)) if isinstance(named[2], int) else None
    if question is None:
        raise InputError(
            f"{name}: answers {named[0]} {named[1]} idx {named[2]}, which is not in the annotations"
        )
    return question
