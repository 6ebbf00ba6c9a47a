"""Questions about films of the toy world and their right answers.

Grounding, localization and captioning questions are those that vidground asks by default, so that
a model trained on these samples works with `Grounder` and `DenseCaptioner`. An answer is one
`<evi>` for each interval, `</evi>`, then text that holds the same `<evi>` again (paper, section
3.2). Times are those of the events, rounded to 0.1 s. Knows no file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter

import numpy as np

from vidground.language.prompts import (
    captioning_question,
    grounding_question,
    localization_question,
)
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END
from vidground.training.data.answer_events import NOT_FOUND
from vidground.training.toy.captions import (
    ACTION_PHRASES,
    COLORS,
    SHAPES,
    Facts,
    changed_facts,
    plural,
    words,
)
from vidground.training.toy.world import ToyEvent, ToyVideo

LETTERS = "ABCD"
"""Letters of the options of a multiple-choice question."""
_OPENING = "You are given a video about coloured shapes. Watch the video carefully and "
_FORMAT = " The format of your response should be: "
_TIMES = "<start time> - <end time>"
_PARTS = (
    f"{_OPENING}find all the parts that show {{kind}}.{_FORMAT}"
    f"'The video summary locates in {_TIMES}, {_TIMES}, and {_TIMES}'."
)
_STEPS = (
    f"{_OPENING}find all the steps. For each step, you need to determine the start and end times "
    f"and provide a short description.{_FORMAT}'{_TIMES}, <description>'."
)
_CHOICE = (
    f"{_OPENING}answer the question: '{{question}}' The options are: {{options}}.{_FORMAT}"
    f"'(<letter>) The relevant event happens in {_TIMES}'."
)
_REFERRED = f"{_OPENING}describe the event in {EVIDENCE}."
_REFERRED_CHOICE = (
    f"{_OPENING}find the description of the event in {EVIDENCE}. The options are: {{options}}."
    f"{_FORMAT}'(<letter>)'."
)
_ASK_ACTION = "What does the {look} do?"
_ASK_COLOUR = "What is the colour of the coloured shape that {action}?"
_ASK_SHAPE = "What is the coloured shape that {action}?"

Span = tuple[float, float]
"""[start, end] in seconds, rounded to 0.1."""


@dataclass(frozen=True, slots=True)
class ToyQuestion:
    """A question about a film and its right answer, in no file format yet.

    Attributes:
        task: tvg, tal, dvc, slc, evs, gvq, rvc or rvq, the names of E.T. Bench and E.T. Instruct.
        question: with `<evi>` if it refers to an interval.
        text: of the answer, after `</evi>`.
        tgt: the interval of each `<evi>` of the text.
        src: the interval of the `<evi>` in the question.
        options: of a multiple-choice question.
        right: index of the right option.
        captions: of each interval, where the question asks for them.
    """

    task: str
    question: str
    text: str
    tgt: tuple[Span, ...] = ()
    src: Span | None = None
    options: tuple[str, ...] = ()
    right: int | None = None
    captions: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The whole response: evidence first, then the text."""
        return EVIDENCE * len(self.tgt) + EVIDENCE_END + self.text


def questions(video: ToyVideo, rng: np.random.Generator) -> list[ToyQuestion]:
    """Return the questions about a film: dense and step captions, grounding of each event that is
    the only one of its kind, and one of each other task for which the film is unambiguous.
    """
    events = video.events
    return [
        *_dense_captions(events),
        *_step_captions(events),
        *_grounding(events),
        *_localization(events, rng),
        *_parts(events, rng),
        *_choice(events, rng),
        *_referred(events, rng),
    ]


def vocabulary() -> tuple[str, ...]:
    """Return every word of all questions and answers (see `captions.words`), each once."""
    blank = {"kind": "", "question": "", "options": "", "look": "", "action": ""}
    own = (_PARTS, _STEPS, _CHOICE, _REFERRED, _REFERRED_CHOICE)
    asked = (_ASK_ACTION, _ASK_COLOUR, _ASK_SHAPE)
    texts = [
        *(grounding_question("a"), localization_question("a"), captioning_question()),
        *(template.format_map(blank) for template in (*own, *asked)),
        *(*COLORS, *SHAPES, *ACTION_PHRASES, *map(plural, SHAPES), *LETTERS),
        *("The event happens in", "The action happens in", "The video summary locates in"),
        *("The relevant event happens in", NOT_FOUND, "(, and).", EVIDENCE, EVIDENCE_END),
    ]
    return tuple(dict.fromkeys(word for text in texts for word in words(text)))


def phrases() -> tuple[str, ...]:
    """Return what all questions of a task have in common: the longest pieces of their fixed text,
    without <evi>, of three words or more.
    """
    open_questions = (grounding_question("{}"), localization_question("{}"), captioning_question())
    own = (_PARTS, _STEPS, _CHOICE, _REFERRED, _REFERRED_CHOICE)
    fixed = (text for asked in (*open_questions, *own) for text, *_ in Formatter().parse(asked))
    pieces = (piece.strip() for text in fixed for piece in text.split(EVIDENCE))
    return tuple(dict.fromkeys(piece for piece in pieces if len(piece.split()) >= 3))


def other_questions(facts: Facts) -> tuple[str, ...]:
    """Return a question of each kind other than grounding and captioning, most about `facts`.

    They need not have an answer in any film.
    """
    kinds = (f"{facts.color} shapes", plural(str(facts.shape)))
    asked = (
        _ASK_ACTION.format(look=facts.look),
        _ASK_COLOUR.format(action=facts.action_phrase),
        _ASK_SHAPE.format(action=facts.action_phrase),
    )
    options = _lettered([facts.action_phrase])
    return (
        _STEPS,
        _REFERRED,
        _REFERRED_CHOICE.format(options=_lettered([facts.caption])),
        localization_question(facts.action_phrase),
        localization_question(facts.caption),
        *(_PARTS.format(kind=kind) for kind in kinds),
        *(_CHOICE.format(question=question, options=options) for question in asked),
    )


def _span(event: ToyEvent) -> Span:
    return round(event.start_s, 1), round(event.end_s, 1)


def _enumerated(count: int) -> str:
    """Return `count` `<evi>` as a list in prose."""
    *rest, last = [EVIDENCE] * count
    return ", ".join([*rest, f"and {last}"]) if rest else last


def _dense_captions(events: Sequence[ToyEvent]) -> list[ToyQuestion]:
    captions = tuple(event.caption for event in events)
    return [_captioned("dvc", captioning_question(), events, captions)]


def _step_captions(events: Sequence[ToyEvent]) -> list[ToyQuestion]:
    """Return step captions; films with overlapping events have no steps."""
    if any(_overlap(event, other) for event in events for other in events if event is not other):
        return []
    return [_captioned("slc", _STEPS, events, tuple(event.facts.step for event in events))]


def _captioned(
    task: str, question: str, events: Sequence[ToyEvent], captions: tuple[str, ...]
) -> ToyQuestion:
    text = " ".join(f"{EVIDENCE}, {caption}." for caption in captions)
    return ToyQuestion(task, question, text, tuple(map(_span, events)), captions=captions)


def _grounding(events: Sequence[ToyEvent]) -> list[ToyQuestion]:
    return [
        ToyQuestion(
            "tvg",
            grounding_question(event.caption),
            f"The event happens in {EVIDENCE}.",
            (_span(event),),
        )
        for event in _unique(events, lambda facts: facts.caption)
    ]


def _localization(events: Sequence[ToyEvent], rng: np.random.Generator) -> list[ToyQuestion]:
    """Ask for all occurrences of one action, and of each caption that occurs more than once."""
    captions = [event.caption for event in events]
    wanted = list(dict.fromkeys(caption for caption in captions if captions.count(caption) > 1))
    wanted.append(str(rng.choice([event.facts.action_phrase for event in events])))
    asked = []
    for action in wanted:
        found = [event for event in events if action in (event.caption, event.facts.action_phrase)]
        text = f"The action happens in {_enumerated(len(found))}."
        spans = tuple(map(_span, found))
        asked.append(ToyQuestion("tal", localization_question(action), text, spans))
    return asked


def _parts(events: Sequence[ToyEvent], rng: np.random.Generator) -> list[ToyQuestion]:
    """Ask for the parts that show one colour or one shape; overlapping events are one part."""
    event = events[int(rng.integers(len(events)))]
    colour, shape = event.facts.color, event.facts.shape
    if rng.random() < 0.5:
        kind, shown = f"{colour} shapes", [other for other in events if other.facts.color == colour]
    else:
        kind, shown = plural(shape), [other for other in events if other.facts.shape == shape]
    spans = _merged(map(_span, shown))
    text = f"The video summary locates in {_enumerated(len(spans))}."
    return [ToyQuestion("evs", _PARTS.format(kind=kind), text, spans)]


def _choice(events: Sequence[ToyEvent], rng: np.random.Generator) -> list[ToyQuestion]:
    """Ask for a fact of an event that the question identifies by its other facts."""
    cases: list[tuple[str, ToyEvent, str | None, Sequence[str]]] = []
    for event in _unique(events, lambda facts: facts.look):
        question = _ASK_ACTION.format(look=event.facts.look)
        cases.append((question, event, event.facts.action_phrase, ACTION_PHRASES))
    for event in _unique(events, lambda facts: facts.action_phrase):
        action = event.facts.action_phrase
        cases.append((_ASK_COLOUR.format(action=action), event, event.facts.color, COLORS))
        cases.append((_ASK_SHAPE.format(action=action), event, event.facts.shape, SHAPES))
    if not cases:
        return []
    question, event, answer, known = cases[int(rng.integers(len(cases)))]
    others = rng.permutation([word for word in known if word != answer])[: len(LETTERS) - 1]
    options, right = _shuffled(answer, others.tolist(), rng)
    return [
        ToyQuestion(
            "gvq",
            _CHOICE.format(question=question, options=_lettered(options)),
            f"({LETTERS[right]}) The relevant event happens in {EVIDENCE}.",
            (_span(event),),
            options=options,
            right=right,
        )
    ]


def _referred(events: Sequence[ToyEvent], rng: np.random.Generator) -> list[ToyQuestion]:
    """Ask for the event of a given interval, in words and by options, where it is alone."""
    alone = [
        event
        for event in events
        if not any(_overlap(event, other) for other in events if other is not event)
    ]
    if not alone:
        return []
    event = alone[int(rng.integers(len(alone)))]
    span, facts = _span(event), event.facts
    wrong = [changed_facts(facts, fact, rng).caption for fact in ("color", "shape", "action")]
    options, right = _shuffled(event.caption, wrong, rng)
    question = _REFERRED_CHOICE.format(options=_lettered(options))
    return [
        ToyQuestion("rvc", _REFERRED, f"{event.caption}.", src=span),
        ToyQuestion("rvq", question, f"({LETTERS[right]})", src=span, options=options, right=right),
    ]


def _unique(events: Sequence[ToyEvent], key: Callable[[Facts], str]) -> list[ToyEvent]:
    """Return the events whose `key` no other event of the film has."""
    keys = [key(event.facts) for event in events]
    return [event for event, own in zip(events, keys, strict=True) if keys.count(own) == 1]


def _overlap(one: ToyEvent, other: ToyEvent) -> bool:
    return one.start_s < other.end_s and other.start_s < one.end_s


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for start_s, end_s in sorted(spans):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]))
        else:
            merged.append((start_s, end_s))
    return tuple(merged)


def _shuffled(
    answer: str | None, others: list[str], rng: np.random.Generator
) -> tuple[tuple[str, ...], int]:
    """Return the options in random order, and the index of the answer."""
    options = tuple(rng.permutation([str(answer), *others]).tolist())
    return options, options.index(str(answer))


def _lettered(options: Sequence[str]) -> str:
    return " ".join(
        f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)
    )
