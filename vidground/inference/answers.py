"""Answers of a model to prompts on the windows of a video: as generated, and as parsed.

Grounding and captioning start from here. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vidground.features.windows import Window, span_seconds
from vidground.generation.generation_queue import Evidence, Generation
from vidground.language.response_parsing import ParsedAnswer, Times, answer_text, parse_answer
from vidground.language.spoken_times import join_instants
from vidground.language.tokenizers import Tokenizers
from vidground.video.info import VideoInfo

_MAX_PLACES = 3
"""Number of windows that a note lists one by one."""


@dataclass(frozen=True)
class Answer:
    """What the model generated for one prompt on one window.

    Attributes:
        window: that was asked.
        prompt: index of the prompt.
        generation: tokens and evidence.
    """

    window: Window
    prompt: int
    generation: Generation


@dataclass(frozen=True)
class Answers:
    """All answers on one video, and what is known about the video.

    Attributes:
        info: what was measured of the file.
        times_s: times of the samples.
        period_s: time between samples.
        windows: those that were asked.
        answers: ordered by window, then by prompt.
        warnings: what a user should know about the file.
    """

    info: VideoInfo
    times_s: tuple[float, ...]
    period_s: float
    windows: tuple[Window, ...]
    answers: tuple[Answer, ...]
    warnings: tuple[str, ...]

    def of(self, prompt: int) -> list[Generation]:
        """Return the answers to one prompt, one per window."""
        return [answer.generation for answer in self.answers if answer.prompt == prompt]

    def seconds(self, first: int, last: int) -> tuple[float, float]:
        """Return an inclusive range of samples as half-open seconds; see `span_seconds`."""
        return span_seconds(
            self.times_s, first, last, period_s=self.period_s, duration_s=self.info.duration_s
        )


@dataclass(frozen=True)
class Reading:
    """The answer to a prompt on one window, parsed.

    Attributes:
        window: that was asked.
        generation: tokens and evidence.
        token_ids: the tokens as they were parsed; `<vid> - <vid>`, which is one interval, is one
            token here.
        evidence: what each time token of `token_ids` stands for.
        times_s: start and end of each in seconds, or one number for an instant.
        parsed: the parts of the answer.
        text: the answer as a sentence, with evidence as times.
    """

    window: Window
    generation: Generation
    token_ids: Sequence[int]
    evidence: tuple[Evidence, ...]
    times_s: tuple[Times, ...]
    parsed: ParsedAnswer
    text: str

    @property
    def referred(self) -> list[Evidence]:
        """The evidence that the answer refers to; without an answer, all evidence gathered."""
        ordinals = self.parsed.answer_evidence or self.parsed.evidence
        return [self.evidence[ordinal] for ordinal in ordinals]


def read_answers(
    answers: Answers, prompt: int, tokenizers: Tokenizers, *, evidence_stage: bool
) -> list[Reading]:
    """Parse the answer of every window to one prompt.

    Args:
        answers: of a video.
        prompt: index of the prompt.
        tokenizers: of the model that answered.
        evidence_stage: of the model that answered; see `D2VLMConfig`.

    Returns:
        One reading per window, in order.
    """
    readings = []
    for window, generation in zip(answers.windows, answers.of(prompt), strict=True):
        ids, decode = tokenizers.ids, tokenizers.decode
        tokens: Sequence[int] = generation.token_ids
        evidence = generation.evidence
        if tokenizers.time_tokens == "matching":
            tokens, ordinals = join_instants(tokens, ids=ids, decode=decode)
            evidence = tuple(_joined([evidence[i] for i in each]) for each in ordinals)
        times_s = tuple(_times_s(answers, window, item) for item in evidence)
        parsed = parse_answer(tokens, ids=ids, decode=decode, evidence_stage=evidence_stage)
        text = answer_text(tokens, times_s, ids=ids, decode=decode, evidence_stage=evidence_stage)
        readings.append(Reading(window, generation, tokens, evidence, times_s, parsed, text))
    return readings


def _joined(instants: Sequence[Evidence]) -> Evidence:
    """Return the interval between two matched frames, or the instant of one."""
    frames = tuple(frame for instant in instants for frame in instant.matched)
    curve = torch.stack([instant.curve for instant in instants]).amax(0)
    return Evidence(instants[0].position, min(frames), max(frames), curve, frames)


def _times_s(answers: Answers, window: Window, evidence: Evidence) -> Times:
    """Return the times that a time token reads as; those of matched frames in the order said."""
    if evidence.matched:
        return tuple(answers.times_s[window.start + frame] for frame in evidence.matched)
    return answers.seconds(window.start + evidence.first, window.start + evidence.last)


def answer_notes(answers: Answers, readings: Sequence[Reading]) -> list[str]:
    """Return warnings about the answers, one per kind of problem."""
    found: dict[str, list[str]] = {}
    for reading in readings:
        window = reading.window
        at = f"{answers.times_s[window.start]:.0f} - {answers.times_s[window.stop - 1]:.0f} s"
        if reading.generation.truncated:
            length = len(reading.generation.token_ids)
            cut = f"the answer was cut off at the cap of {length} tokens"
            if reading.generation.looped:
                cut = f"the answer was stopped after {length} tokens, it only repeated itself"
            found.setdefault(cut, []).append(at)
        for problem in reading.parsed.problems:
            found.setdefault(problem, []).append(at)
    return [f"{_places(places, len(readings))}: {problem}" for problem, places in found.items()]


def _places(places: Sequence[str], windows: int) -> str:
    """Return where a problem occurred, in few words however many windows there are."""
    if len(places) <= _MAX_PLACES:
        return ", ".join(places)
    return f"{places[0]} and {len(places) - 1} more of {windows} windows"
