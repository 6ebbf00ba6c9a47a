"""Rejected answers from a prediction and its correction, one wrong factor each (paper, 3.3).

The events of both are paired; then the times of one are combined with the texts of the other, so
that a rejected answer is wrong in its times alone, or in its texts alone. Knows no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END
from vidground.results.types import Event, GroundingResult
from vidground.training.data.answer_events import FOUND, NOT_FOUND, AnnotatedAnswer, read_answer
from vidground.training.data.interval_metrics import Interval, iou_matrix
from vidground.training.data.perturbation import frame_iou

TIMES, TEXT = "rejected_0_times", "rejected_1_f"
"""Names of rejected answers by the wrong factor; see `perturbation.factor_of`."""

_MENTION = re.compile(r"(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?) s\b")


def caption_answer(events: Sequence[Event], *, predicted: bool) -> AnnotatedAnswer:
    """Return the answer that captions these events, by time.

    Args:
        events: in any order, as a person may have added them.
        predicted: whether the model made them, so that an event may lack a text.

    Raises:
        InputError: there are no events, or one of a correction has no text.
    """
    if not events:
        raise InputError("has no events; a caption needs at least one")
    silent = [event for event in events if not event.text.strip(". \n\t")]
    if silent and not predicted:
        raise InputError(
            f"the event {silent[0].start_s:g} - {silent[0].end_s:g} s has no text; describe "
            "what happens, or remove it"
        )
    ordered = sorted(events, key=lambda event: (event.start_s, event.end_s))
    return AnnotatedAnswer(
        intervals=tuple((event.start_s, event.end_s) for event in ordered),
        captions=tuple(" ".join(event.text.split()).rstrip(". ") for event in ordered),
        opening=", ",
        closing=".",
    )


def predicted_answer(result: GroundingResult) -> AnnotatedAnswer:
    """Return what the model answered to a query: its moments by time, in its sentence.

    Times named by the sentence are replaced by the moments. Only where the prediction did not
    count as found, and so has no moments, are they its intervals.
    """
    sentence = _sentence(result)
    intervals = _moments(result) or _named_times(sentence)
    return _in_words(sentence, intervals)


def corrected_answer(result: GroundingResult, *, predicted: GroundingResult) -> AnnotatedAnswer:
    """Return what a person says is the answer to a query.

    Moments that were added to a "not found" make it a find, in the words of one: a sentence that
    names no time has no place for them. Where subtitles or an annotation tool removed all moments,
    `NOT_FOUND` replaces the model's sentence. Moments are sorted by time.

    Raises:
        InputError: `found`, the moments and the sentence contradict each other, or the sentence
            was rewritten without a time to put the moments in.
    """
    sentence, intervals = _sentence(result), _moments(result)
    times = _named_times(sentence)
    where = f"the answer to {result.query!r}"
    if result.found and not intervals:
        raise InputError(
            f"{where} has found = true and no moments; add the moments, or set found to false"
        )
    if intervals and predicted.found and not result.found:
        raise InputError(
            f"{where} has found = false and {len(intervals)} moments; remove the moments, or set "
            "found to true"
        )
    if not intervals and times and result.provenance.corrected:
        return AnnotatedAnswer((), captions=(NOT_FOUND,))
    if not intervals and (times or not sentence):
        raise InputError(
            f"{where} has no moments, and its sentence is {result.answer!r}; let the sentence say "
            "that nothing was found"
        )
    if intervals and not times:
        if sentence and sentence != _sentence(predicted):
            raise InputError(
                f"{where} has moments, and its sentence {result.answer!r} names no time; write "
                "where they belong, such as '8 - 12 s', or restore the sentence"
            )
        return AnnotatedAnswer(intervals, lead=FOUND, tail=".")
    return _in_words(sentence, intervals)


def same_answer(one: GroundingResult, other: GroundingResult) -> bool:
    """Return whether a person changed nothing that matters: `found`, moments, sentence."""
    return (one.found, _moments(one), _sentence(one)) == (
        other.found,
        _moments(other),
        _sentence(other),
    )


def _sentence(result: GroundingResult) -> str:
    return " ".join(result.answer.split())


def _moments(result: GroundingResult) -> tuple[Interval, ...]:
    return tuple(sorted((moment.start_s, moment.end_s) for moment in result.moments))


def _named_times(sentence: str) -> tuple[Interval, ...]:
    return tuple((float(start), float(end)) for start, end in _MENTION.findall(sentence))


def _in_words(sentence: str, intervals: tuple[Interval, ...]) -> AnnotatedAnswer:
    """Return intervals in a sentence, in the place of the times that it names."""
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
    return AnnotatedAnswer(intervals, lead=f"{parts[0].rstrip()} ", tail=tail)


def rejected_answers(
    chosen: AnnotatedAnswer, predicted: AnnotatedAnswer, *, fps: float
) -> dict[str, AnnotatedAnswer]:
    """Return the answers to reject by name: wrong times, wrong texts, both or neither.

    Wrong times are the predicted intervals with the corrected texts; an event that the correction
    lacks keeps its own text. Wrong texts are the predicted texts on the corrected intervals.

    Args:
        chosen: the correction.
        predicted: the prediction.
        fps: sampled frames per second; times on the same frames are equal.

    Raises:
        InputError: the two answers have different forms.
    """
    if not (chosen.intervals and predicted.intervals):
        # An answer without intervals has words of its own, which fit no other answer.
        differ = chosen.intervals != predicted.intervals
        name = TIMES if differ else TEXT
        return {name: predicted} if predicted != chosen else {}
    if bool(chosen.captions) != bool(predicted.captions):
        raise InputError("one answer describes each event and the other lists them; use one form")
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
    reworded = _with_texts(chosen, predicted, partners)
    if reworded.text() != chosen.text():
        found[TEXT] = reworded
    return found


def paired(chosen: AnnotatedAnswer, predicted: AnnotatedAnswer) -> Mapping[int, int]:
    """Return predicted event → corrected event, one to one, as indices.

    Events that overlap most or have the same text are paired first, the others in order.
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
    """Return whether all events of both lie on the same frames."""
    if not len(chosen.intervals) == len(predicted.intervals) == len(partners):
        return False
    pairs: list[tuple[Interval, Interval]] = [
        (predicted.intervals[i], chosen.intervals[j]) for i, j in partners.items()
    ]
    return all(frame_iou(one, other, fps=fps) == 1 for one, other in pairs)


def _with_texts(
    chosen: AnnotatedAnswer, predicted: AnnotatedAnswer, partners: Mapping[int, int]
) -> AnnotatedAnswer:
    """Return the corrected intervals with the predicted texts."""
    if not chosen.captions:
        return replace(chosen, lead=predicted.lead, tail=predicted.tail)
    texts = list(chosen.captions)
    for i, j in partners.items():
        texts[j] = predicted.captions[i]
    return replace(chosen, captions=tuple(texts))
