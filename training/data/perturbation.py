"""Preference pairs from right answers, each wrong in one factor (paper, section 3.3).

Temporal: an interval is shifted, a random event is added, one is removed, or neighbours are merged;
where questions may be about what is not in the video, the only event is denied, or one is made up.
Text: the caption of an event is exchanged for another event's, or is repeated. A rejected answer
differs from the right one by a minimum; where that is impossible, none is made. Knows neither token
ids nor files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE_END
from vidground.training.data.answer_events import AnnotatedAnswer, read_answer
from vidground.training.data.interval_metrics import Interval

CHOSEN = "chosen"
"""Key of the right answer in a preference annotation."""
TEXTUAL = ("f", "repeat", "qwen")
"""Names of perturbations of the text; all others are temporal."""
_TRIES = 50

Factor = Literal["text", "temporal"]


@dataclass(frozen=True, slots=True)
class PerturbationSettings:
    """How much a rejected answer differs from the right one.

    Attributes:
        max_iou: limit of the intersection over union, in frames, of an added, removed or moved
            interval with every interval of the other answer; in (0, 1].
        min_changed_words: fewest words that only one of two texts has, counted on both sides; at
            least 1.
        repeats: how often a repeated caption occurs, at least 2.
        fps: sampled frames per second, in which intervals are compared.
        seed: the same seed and annotations give the same pairs.
    """

    max_iou: float = 0.5
    min_changed_words: int = 2
    repeats: int = 3
    fps: float = 1.0
    seed: int = 42

    def __post_init__(self) -> None:
        for name, ok, limit in (
            ("max_iou", 0 < self.max_iou <= 1, "above 0 and at most 1"),
            ("min_changed_words", self.min_changed_words >= 1, "at least 1"),
            ("repeats", self.repeats >= 2, "at least 2"),
            ("fps", 0 < self.fps <= 60, "above 0 and at most 60"),
        ):
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {limit}")


@dataclass(frozen=True)
class OtherAnswers:
    """What a rejected answer may take from other annotations of its task.

    Attributes:
        captions: to exchange captions for.
        denials: answers without an event.
        findings: answers with the time of a single event and no caption.
    """

    captions: Sequence[str] = ()
    denials: Sequence[AnnotatedAnswer] = ()
    findings: Sequence[AnnotatedAnswer] = ()

    @classmethod
    def of(cls, answers: Sequence[AnnotatedAnswer]) -> OtherAnswers:
        """Return what can be taken from answers."""
        return cls(
            captions=[caption for answer in answers for caption in answer.captions],
            denials=[answer for answer in answers if not answer.intervals],
            findings=[a for a in answers if len(a.intervals) == 1 and not a.captions],
        )


@dataclass(frozen=True)
class _Scene:
    """What a perturbation draws from."""

    duration_s: float
    others: OtherAnswers
    settings: PerturbationSettings
    rng: random.Random


def preference_annotations(
    annotations: Sequence[Mapping[str, Any]],
    settings: PerturbationSettings = PerturbationSettings(),
) -> Iterator[dict[str, Any]]:
    """Yield preference annotations for all annotations that allow one.

    Captions to exchange for, and the wording of answers with and without an event, are taken from
    other annotations of the same task where the answer itself has none.

    Args:
        annotations: SFT samples that were checked.
        settings: see there.
    """
    answers = [_answer(annotation) for annotation in annotations]
    known: dict[str | None, list[AnnotatedAnswer]] = {}
    for annotation, answer in zip(annotations, answers, strict=True):
        known.setdefault(annotation.get("task"), []).extend([answer] if answer else [])
    pools = {task: OtherAnswers.of(of_task) for task, of_task in known.items()}
    for index, annotation in enumerate(annotations):
        rng = random.Random(f"{settings.seed}:{index}")
        others = pools[annotation.get("task")]
        found = preference_annotation(annotation, settings, others=others, rng=rng)
        if found is not None:
            yield found


def preference_annotation(
    annotation: Mapping[str, Any],
    settings: PerturbationSettings = PerturbationSettings(),
    *,
    others: OtherAnswers = OtherAnswers(),
    rng: random.Random | None = None,
) -> dict[str, Any] | None:
    """Return an annotation with all rejected answers that can be made; None if there are none.

    In the released form: `conversations`, and `tgt` where the answer has intervals, else `src`,
    become objects with the keys "chosen" and "rejected_<number>_<perturbation>".

    Args:
        annotation: an SFT sample, with one question and one answer.
        settings: see there.
        others: source of what this answer does not have.
        rng: to draw from; None starts from the seed of the settings.

    Raises:
        InputError: the intervals do not match the `<evi>` of the answer.
    """
    answer = _answer(annotation)
    if answer is None:
        return None
    rng = rng or random.Random(settings.seed)
    scene = _Scene(float(annotation["duration"]), others, settings, rng)
    rejected = {}
    for number, (kind, perturb) in enumerate(_PERTURBATIONS.items()):
        found = _first_far_enough(answer, kind, perturb, scene)
        if found is not None:
            rejected[f"rejected_{number}_{kind}"] = found
    return _released_form(annotation, answer, rejected) if rejected else None


def factor_of(name: str) -> Factor:
    """Return the wrong factor of a rejected answer, by its name.

    Raises:
        InputError: the name contains no perturbation.
    """
    parts = name.split("_")
    if len(parts) < 3:
        raise InputError(
            f"{name!r} contains no perturbation; it must look like 'rejected_0_shift', or "
            "'rejected_4_f' for key information and 'rejected_5_repeat' for repetition"
        )
    return "text" if parts[2] in TEXTUAL else "temporal"


def changed_words(one: str, other: str) -> int:
    """Return how many words only one of two texts has, each as often as it occurs."""
    ours, theirs = Counter(one.lower().split()), Counter(other.lower().split())
    return (ours - theirs).total() + (theirs - ours).total()


def frame_iou(one: Interval, other: Interval, *, fps: float) -> float:
    """Return the intersection over union of two intervals, in sampled frames."""
    (start, end), (first, last) = (
        [round(time_s * fps) for time_s in interval] for interval in (one, other)
    )
    shared = max(min(end, last) - max(start, first) + 1, 0)
    return shared / (end - start + 1 + last - first + 1 - shared)


def _answer(annotation: Mapping[str, Any]) -> AnnotatedAnswer | None:
    texts = [turn["value"] for turn in annotation["conversations"] if turn["from"] == "gpt"]
    if len(texts) != 1:
        return None
    return read_answer(texts[0], annotation.get("tgt") or ())


def _shift(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Move one interval, keeping its length."""
    intervals = list(answer.intervals)
    if not intervals:
        return None
    place = scene.rng.randrange(len(intervals))
    start_s, end_s = intervals[place]
    intervals[place] = _somewhere(end_s - start_s, scene)
    return answer.with_events(intervals, answer.captions)


def _insert(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Add an event of the length of another one where there is none."""
    if not answer.intervals and scene.others.findings:
        other = scene.rng.choice(scene.others.findings)
        ((start_s, end_s),) = other.intervals
        return other.with_events([_somewhere(end_s - start_s, scene)], ())
    if not answer.intervals:
        return None
    start_s, end_s = scene.rng.choice(answer.intervals)
    new = _somewhere(end_s - start_s, scene)
    place = sum(interval <= new for interval in answer.intervals)
    intervals, captions = list(answer.intervals), list(answer.captions)
    intervals.insert(place, new)
    if captions:
        captions.insert(place, scene.rng.choice(scene.others.captions or captions))
    return answer.with_events(intervals, captions)


def _delete(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Remove one event; deny the only one in the words of another answer."""
    if len(answer.intervals) == 1 and scene.others.denials:
        return scene.rng.choice(scene.others.denials)
    if len(answer.intervals) < 2:
        return None
    place = scene.rng.randrange(len(answer.intervals))
    intervals, captions = list(answer.intervals), list(answer.captions)
    del intervals[place], captions[place : place + 1]
    return answer.with_events(intervals, captions)


def _merge(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Merge two or more neighbours to one event with all their captions."""
    count = len(answer.intervals)
    if count < 2:
        return None
    first = scene.rng.randrange(count - 1)
    run = slice(first, scene.rng.randrange(first + 2, count + 1))
    intervals, captions = list(answer.intervals), list(answer.captions)
    starts_s, ends_s = zip(*intervals[run], strict=True)
    intervals[run] = [(min(starts_s), max(ends_s))]
    if captions:
        captions[run] = [" and ".join(captions[run])]
    return answer.with_events(intervals, captions)


def _exchange(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Give an event the caption of another one, of another annotation if it is the only one."""
    own = list(dict.fromkeys(answer.captions))
    known = own if len(own) > 1 else scene.others.captions
    if not answer.captions or not known:
        return None
    captions = list(answer.captions)
    captions[scene.rng.randrange(len(captions))] = scene.rng.choice(known)
    return answer.with_events(answer.intervals, captions)


def _repeat(answer: AnnotatedAnswer, scene: _Scene) -> AnnotatedAnswer | None:
    """Repeat the caption of one event."""
    if not answer.captions:
        return None
    captions = list(answer.captions)
    place = scene.rng.randrange(len(captions))
    captions[place] = ", ".join([captions[place]] * scene.settings.repeats)
    return answer.with_events(answer.intervals, captions)


_Perturb = Callable[[AnnotatedAnswer, _Scene], AnnotatedAnswer | None]
_PERTURBATIONS: dict[str, _Perturb] = {
    "shift": _shift,
    "insert": _insert,
    "delete": _delete,
    "merge": _merge,
    "f": _exchange,
    "repeat": _repeat,
}


def _first_far_enough(
    answer: AnnotatedAnswer, kind: str, perturb: _Perturb, scene: _Scene
) -> AnnotatedAnswer | None:
    for _ in range(_TRIES):
        found = perturb(answer, scene)
        if found is None:
            return None
        if kind in TEXTUAL:
            words = sum(map(changed_words, found.captions, answer.captions))
            far = words >= scene.settings.min_changed_words
        else:
            far = _far_apart(found.intervals, answer.intervals, scene.settings)
        if far:
            return found
    return None


def _far_apart(
    ones: Sequence[Interval], others: Sequence[Interval], settings: PerturbationSettings
) -> bool:
    """Return whether intervals of one side alone overlap with the other side below the limit."""
    if not ones or not others:
        return bool(ones) != bool(others)
    pairs = [(one, other) for one in ones if one not in others for other in others]
    pairs += [(one, other) for one in others if one not in ones for other in ones]
    ious = [frame_iou(one, other, fps=settings.fps) for one, other in pairs]
    return bool(ious) and max(ious) < settings.max_iou


def _somewhere(length_s: float, scene: _Scene) -> Interval:
    latest_s = max(scene.duration_s - length_s, 0.0)
    start_s = round(scene.rng.uniform(0, latest_s), 1)
    return start_s, round(min(start_s + length_s, scene.duration_s), 1)


def _in_form_of(annotation: Mapping[str, Any], other: AnnotatedAnswer) -> str:
    """Return an answer's text; without intervals, with `</evi>` only if the right one has it."""
    (right,) = [turn["value"] for turn in annotation["conversations"] if turn["from"] == "gpt"]
    text = other.text()
    if other.intervals or EVIDENCE_END in right:
        return text
    return text.removeprefix(EVIDENCE_END)


def _released_form(
    annotation: Mapping[str, Any],
    answer: AnnotatedAnswer,
    rejected: Mapping[str, AnnotatedAnswer],
) -> dict[str, Any]:
    human = next(turn for turn in annotation["conversations"] if turn["from"] == "human")
    found = {**annotation, "conversations": {CHOSEN: list(annotation["conversations"])}}
    for name, other in rejected.items():
        answer_turn = {"from": "gpt", "value": _in_form_of(annotation, other)}
        found["conversations"][name] = [dict(human), answer_turn]
    times = {name: other.times_s for name, other in rejected.items()}
    if answer.intervals or any(times.values()):
        found["tgt"] = {CHOSEN: list(annotation.get("tgt") or ()), **times}
    elif annotation.get("src") is not None:
        found["src"] = {name: list(annotation["src"]) for name in (CHOSEN, *rejected)}
    return found
