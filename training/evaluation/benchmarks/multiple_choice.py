"""Multiple-choice questions of MVBench and Video-MME: their samples, and accuracy by option letter.

Samples have E.T. Bench's fields with the task "mcq" and `groups`, the classes by which accuracy is
reported. A response counts by the letter it gives: the first one at its start or in brackets. A
response without a letter is a miss; the released scorers leave some of these out, and MVBench's
counts an empty response as right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE_END
from vidground.training.evaluation.answer_reading import read_option
from vidground.training.evaluation.questions import Question

TASK = "mcq"

# What responses say before the letter, as the released scorer of Video-MME removes it.
_LEAD = re.compile(r"\s*(?:the\s+)?(?:best\s+|correct\s+)?(?:answer|option)(?:\s+is)?\s*:?\s*")


@dataclass(frozen=True, slots=True)
class Choice:
    """One multiple-choice question.

    Attributes:
        video: path relative to the videos' folder, with /.
        text: the whole question, options included.
        options: two to 26 texts.
        right: index of the right option, from 0.
        groups: kind of class → class, such as "task" → "Action Count".
    """

    video: str
    text: str
    options: tuple[str, ...]
    right: int
    groups: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """Accuracies in [0, 1].

    Attributes:
        accuracy: share of all questions that were answered with the right letter.
        failed: number of responses without a letter.
        hits: (N,) 1 for each right response, else 0, in the order given.
        groups: kind of class → class → (accuracy, number of questions).
    """

    accuracy: float
    failed: int
    hits: NDArray[np.float64]
    groups: Mapping[str, Mapping[str, tuple[float, int]]]


def choice_questions(choices: Sequence[Choice], source: str) -> list[Question]:
    """Return the questions to ask a model; their numbers are their places in `choices`.

    Args:
        choices: of one benchmark.
        source: its name.
    """
    return [
        Question(
            fields={
                "task": TASK,
                "source": source,
                "idx": idx,
                "video": choice.video,
                "q": choice.text,
                "o": list(choice.options),
                "p": choice.right,
                "groups": dict(choice.groups),
            },
            task=TASK,
            source=source,
            idx=idx,
            video=choice.video,
            text=choice.text,
        )
        for idx, choice in enumerate(choices)
    ]


def score_choices(predictions: Sequence[Mapping[str, Any]], source: str) -> ChoiceScores:
    """Return the accuracy of predictions of one benchmark, overall and by class.

    Args:
        predictions: samples of `choice_questions` with the response as `a`; others are ignored.
        source: name of the benchmark.

    Raises:
        InputError: there is no such prediction, or a field is wrong.
    """
    chosen = [p for p in predictions if (p.get("task"), p.get("source")) == (TASK, source)]
    if not chosen:
        raise InputError(f"no prediction has task {TASK} and source {source}; nothing to score")
    hits, failed = np.zeros(len(chosen)), 0
    groups: dict[str, dict[str, list[float]]] = {}
    for number, prediction in enumerate(chosen):
        letter = read_letter(_text(prediction, "a"), _options(prediction))
        hits[number] = letter == prediction.get("p")
        failed += letter is None
        for kind, name in prediction.get("groups", {}).items():
            groups.setdefault(kind, {}).setdefault(name, []).append(hits[number])
    return ChoiceScores(
        accuracy=float(hits.mean()),
        failed=failed,
        hits=hits,
        groups={
            kind: {name: (sum(found) / len(found), len(found)) for name, found in of_kind.items()}
            for kind, of_kind in groups.items()
        },
    )


def read_letter(response: str, options: int) -> int | None:
    """Return the option chosen by a response, from 0; None if it gives no letter.

    Args:
        response: what the model said; only what follows `</evi>` counts.
        options: number of options offered.
    """
    answer = response.rpartition(EVIDENCE_END)[2].lower()
    lead = _LEAD.match(answer)
    return read_option(answer[lead.end() :] if lead else answer, options)


def _options(prediction: Mapping[str, Any]) -> int:
    options = prediction.get("o")
    if not isinstance(options, list) or len(options) < 2:
        raise InputError(
            f"o of idx {prediction.get('idx')} is {options!r}; needs 2 options or more"
        )
    return len(options)


def _text(prediction: Mapping[str, Any], name: str) -> str:
    value = prediction.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} of idx {prediction.get('idx')} is {value!r}; it must be a text")
    return value
