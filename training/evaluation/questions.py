"""Read the questions of a benchmark from samples in E.T. Bench's form.

Every field that scoring needs is checked before a model is asked anything. Opens no video and
loads no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.language.spoken_times import evidence_text
from vidground.language.tokenizers import EVIDENCE, MATCH
from vidground.storage.reading import DATA_SET_BYTES, read_json
from vidground.training.data.annotation_fields import FieldError, label_of, seconds_of, video_of
from vidground.training.data.interval_metrics import Interval
from vidground.training.evaluation.etbench_predictions import TASKS, read_prediction

ABSENT = "absent"
"""The task of queries for events that are not in the video."""

OPTION_PENALTY = 1.2
"""Repetition penalty of E.T. Bench's multiple-choice tasks, as in the released evaluation."""

ANSWER_FIELDS = ("a", "staged", "found", "moments", "warnings", "error")
"""Fields that a prediction adds to its sample."""

Key = tuple[str, str, int]
"""Task, source and number of a sample; unique in a benchmark."""


@dataclass(frozen=True, slots=True)
class Question:
    """One sample.

    Attributes:
        fields: the sample as in its file, without the fields of a prediction.
        task: of E.T. Bench, "absent", or "mcq" for other multiple-choice benchmarks.
        source: name of the data set.
        idx: number within task and source.
        video: path relative to the videos' folder, with /.
        text: the question, with `<evi>` for the times that it refers to.
        spans_s: the interval in seconds that each `<evi>` of the text stands for.
    """

    fields: Mapping[str, Any]
    task: str
    source: str
    idx: int
    video: str
    text: str
    spans_s: tuple[Interval, ...] = ()

    @property
    def key(self) -> Key:
        """What identifies it in a benchmark."""
        return self.task, self.source, self.idx


def load_questions(
    path: str | Path, *, tasks: Collection[str] = (), limit: int | None = None
) -> list[Question]:
    """Return the samples of a JSON file, or of all JSON files of a folder.

    Args:
        path: a file or folder.
        tasks: take only these tasks; empty for all.
        limit: maximum number of samples per task; the first ones are taken.

    Raises:
        InputError: there is no such sample, or a field is missing or wrong; the message names
            the file, the sample's index in it from 0, and the reason.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise InputError(f"task is {unknown[0]!r}; must be one of {', '.join(TASKS)}")
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    found = [_question(item, name, absent=False) for file in files for name, item in _items(file)]
    wanted = [question for question in found if not tasks or question.task in tasks]
    if not wanted:
        kind = f" of {', '.join(tasks)}" if tasks else ""
        raise InputError(f"{path}: holds no samples{kind}; name E.T. Bench's annotations")
    _check_distinct(wanted, path)
    return take_first(wanted, limit)


def questions_of(samples: Sequence[Mapping[str, Any]], name: str) -> list[Question]:
    """Return the questions of samples in E.T. Bench's form.

    Args:
        samples: at least one.
        name: where they come from, for errors.

    Raises:
        InputError: a field is missing or wrong.
    """
    found = [_question(item, f"{name}[{i}]", absent=False) for i, item in enumerate(samples)]
    _check_distinct(found, name)
    return found


def load_absent(path: str | Path, *, limit: int | None = None) -> list[Question]:
    """Return queries for events that are not in the video: samples like those of tvg, no `tgt`.

    Args:
        path: a JSON file.
        limit: maximum number of queries; the first ones are taken.

    Raises:
        InputError: as for `load_questions`.
    """
    found = [_question(item, name, absent=True) for name, item in _items(Path(path))]
    if not found:
        raise InputError(f"{path}: holds no queries")
    _check_distinct(found, path)
    return take_first(found, limit)


def by_video(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """Return the questions on each video, in order of first appearance."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.video, []).append(question)
    return groups


def _items(file: Path) -> list[tuple[str, Any]]:
    content = read_json(file, most_bytes=DATA_SET_BYTES, error=InputError)
    if not isinstance(content, list):
        raise InputError(f"{file}: holds a {type(content).__name__}; needs a list of samples")
    return [(f"{file}[{i}]", item) for i, item in enumerate(content)]


def _question(item: Any, name: str, *, absent: bool) -> Question:
    if not isinstance(item, Mapping):
        raise InputError(f"{name}: is a {type(item).__name__}; a sample is an object")
    fields = {key: value for key, value in item.items() if key not in ANSWER_FIELDS}
    # Absent events have no target; any will do to check the other fields.
    checked = read_prediction(fields | {"a": ""} | ({"tgt": [0, 0]} if absent else {}), name)
    try:
        text, spans = _references(label_of(fields, "q"), fields.get("src"))
        return Question(
            fields=fields,
            task=ABSENT if absent else checked.task,
            source=checked.source,
            idx=checked.idx,
            video=video_of(fields),
            text=text,
            spans_s=spans,
        )
    except (FieldError, InputError) as error:
        raise InputError(f"{name}: {error}") from error


def _references(text: str, src: Any) -> tuple[str, tuple[Interval, ...]]:
    """Return a question with `<evi>` for its times, and their intervals.

    A question may name times by `<vid>` instead, as E.T. Bench's annotations for E.T. Chat do. With
    `<evi>` a single number is an instant.
    """
    references = text.count(EVIDENCE)
    if not references and MATCH not in text:  # the question states its times in words, or has none
        return text, ()
    numbers = [src] if isinstance(src, int | float) else src
    if isinstance(numbers, list) and all(isinstance(pair, list) for pair in numbers):
        numbers = [time_s for pair in numbers for time_s in pair]
    times_s = seconds_of(numbers, "src")
    if not references:
        converted, spans = evidence_text(text, times_s)
        return converted, tuple(spans)
    times_s = times_s * 2 if len(times_s) == 1 else times_s
    if len(times_s) != 2 * references:
        raise FieldError(
            f"q holds {references} {EVIDENCE} and src {len(times_s)} seconds; it needs a start and "
            f"an end for each {EVIDENCE}"
        )
    return text, tuple(zip(times_s[::2], times_s[1::2], strict=True))


def _check_distinct(questions: Sequence[Question], path: str | Path) -> None:
    (task, source, idx), count = Counter(q.key for q in questions).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: holds {task} {source} idx {idx} {count} times; keep one")


def take_first(questions: list[Question], limit: int | None) -> list[Question]:
    """Return the first `limit` questions of each task; all without a limit.

    Raises:
        InputError: the limit is below 1.
    """
    if limit is None:
        return questions
    if limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1 sample of each task")
    taken: Counter[str] = Counter()
    kept = []
    for question in questions:
        taken[question.task] += 1
        if taken[question.task] <= limit:
            kept.append(question)
    return kept
