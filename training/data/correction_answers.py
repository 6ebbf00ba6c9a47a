"""A predicted answer and its correction, apart in one factor at a time (paper, section 3.3).

Events of both are paired; then the times of the one are put with the texts of the other, so that
what is rejected is wrong in its times alone, or in its texts alone. Knows no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END
from vidground.results.types import Event, GroundingResult
from vidground.training.data.answer_events import AnnotatedAnswer, Interval, read_answer
from vidground.training.data.interval_metrics import iou_matrix
from vidground.training.data.perturbation import frame_iou

TIMES, TEXT = "rejected_0_times", "rejected_1_f"
"""Names of a rejected answer by what is wrong in it; see `perturbation.factor_of`."""

_MENTION = re.compile(r"(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?) s\b")


def caption_answer(events: Sequence[Event], *, predicted: bool) -> AnnotatedAnswer:
    """Captioned events as the answer that would tell of them.

    Raises:
        InputError: there are no events, or one of a correction has no text.
    """
    if not events:
        raise InputError("holds no events; at least one must be told of")
    silent = [event for event in events if not event.text.strip(". \n\t")]
    if silent and not predicted:
        raise InputError(
            f"the event {silent[0].start_s:g} - {silent[0].end_s:g} s has no text; say what "
            "happens, or take it out"
        )
    return AnnotatedAnswer(
        intervals=tuple((event.start_s, event.end_s) for event in events),
        captions=tuple(" ".join(event.text.split()).rstrip(". ") for event in events),
        opening=", ",
        closing=".",
    )


def query_answer(result: GroundingResult, *, predicted: bool) -> AnnotatedAnswer:
    """The answer to a query: its moments in time, in the words of its sentence.

    The times that the sentence names give way to the moments. Only if a prediction was not
    counted as found, and so has no moments, are they what it said.

    Raises:
        InputError: a correction has no moments, but its sentence still names times, or is blank.
    """
    sentence = " ".join(result.answer.split())
    told = [(float(start), float(end)) for start, end in _MENTION.findall(sentence)]
    intervals = sorted((moment.start_s, moment.end_s) for moment in result.moments)
    if not intervals and predicted:
        intervals = told
    if not intervals and (told or not sentence):
        raise InputError(
            f"the answer to {result.query!r} has no moments, and its sentence is "
            f"{result.answer!r}; let the sentence say that nothing was found"
        )
    if not intervals:
        return AnnotatedAnswer((), captions=(sentence,))
    parts = _MENTION.sub(EVIDENCE, sentence).split(EVIDENCE)
    text = EVIDENCE.join(parts)
    if len(parts) == len(intervals) + 1:
        stage = EVIDENCE * len(intervals) + EVIDENCE_END
        times_s = [time_s for interval in intervals for time_s in interval]
        answer = read_answer(stage + text, times_s)
        if answer is not None:
            return answer
    tail = parts[-1] if len(parts) > 1 else ""
    return AnnotatedAnswer(tuple(intervals), lead=f"{parts[0].rstrip()} ", tail=tail)


def rejected_answers(
    chosen: AnnotatedAnswer, predicted: AnnotatedAnswer, *, fps: float
) -> dict[str, AnnotatedAnswer]:
    """What is to be rejected of a prediction, by name: its times, its texts, both or neither.

    Times: the predicted intervals, told in the corrected texts; an event that the correction does
    not have keeps its own. Text: the corrected intervals, told in the predicted texts.

    Args:
        fps: sampled frames per second; times on the same frames are equal.

    Raises:
        InputError: the two answers have different forms.
    """
    if not (chosen.intervals and predicted.intervals):
        # An answer without any interval has words of its own: nothing of the other fits it.
        differ = chosen.intervals != predicted.intervals
        name = TIMES if differ else TEXT
        return {name: predicted} if predicted != chosen else {}
    if bool(chosen.captions) != bool(predicted.captions):
        raise InputError("one answer tells of each event and the other lists them; use one form")
    partners = paired(chosen, predicted)
    found = {}
    if not _same_times(chosen, predicted, partners, fps):
        found[TIMES] = chosen.with_events(
            predicted.intervals,
            [
                chosen.captions[partners[i]] if i in partners else caption
                for i, caption in enumerate(predicted.captions)
            ],
        )
    told = _with_texts(chosen, predicted, partners)
    if told.text() != chosen.text():
        found[TEXT] = told
    return found


def paired(chosen: AnnotatedAnswer, predicted: AnnotatedAnswer) -> Mapping[int, int]:
    """Predicted event → the event of the correction that it became, one to one.

    First those that overlap most or have the same text, then what is left in order.
    """
    likeness = iou_matrix(predicted.intervals, chosen.intervals)
    for i, caption in enumerate(predicted.captions):
        for j, other in enumerate(chosen.captions):
            likeness[i, j] += caption == other
    partners: dict[int, int] = {}
    while likeness.max() > 0:
        i, j = divmod(int(likeness.argmax()), likeness.shape[1])
        partners[i] = j
        likeness[i, :] = likeness[:, j] = 0
    left = [i for i in range(len(predicted.intervals)) if i not in partners]
    free = [j for j in range(len(chosen.intervals)) if j not in partners.values()]
    return partners | dict(zip(left, free, strict=False))


def _same_times(
    chosen: AnnotatedAnswer,
    predicted: AnnotatedAnswer,
    partners: Mapping[int, int],
    fps: float,
) -> bool:
    """Whether all events of both lie on the same frames."""
    if not len(chosen.intervals) == len(predicted.intervals) == len(partners):
        return False
    pairs: list[tuple[Interval, Interval]] = [
        (predicted.intervals[i], chosen.intervals[j]) for i, j in partners.items()
    ]
    return all(frame_iou(one, other, fps=fps) == 1 for one, other in pairs)


def _with_texts(
    chosen: AnnotatedAnswer, predicted: AnnotatedAnswer, partners: Mapping[int, int]
) -> AnnotatedAnswer:
    """The corrected intervals in the predicted words."""
    if not chosen.captions:
        return replace(chosen, lead=predicted.lead, tail=predicted.tail)
    texts = list(chosen.captions)
    for i, j in partners.items():
        texts[j] = predicted.captions[i]
    return replace(chosen, captions=tuple(texts))
