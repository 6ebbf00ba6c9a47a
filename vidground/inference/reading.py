"""Raw answers read: what they refer to, their text with times, what went wrong in them.

Grounding and captioning start from here; knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vidground.features.windows import Window
from vidground.generation.generation_queue import Evidence, Generation
from vidground.inference.answers import Answers
from vidground.language.response_parsing import ParsedAnswer, answer_text, parse_answer
from vidground.language.tokenizers import Tokenizers

_PLACES_NAMED = 3  # windows that a note names one by one


@dataclass(frozen=True)
class Reading:
    """The answer to a prompt on one window, as generated, as parsed, and as a sentence."""

    window: Window
    generation: Generation
    parsed: ParsedAnswer
    text: str

    @property
    def referred(self) -> list[Evidence]:
        """The evidence that the answer refers to; without an answer, that it was to rest on."""
        ordinals = self.parsed.answer_evidence or self.parsed.evidence
        return [self.generation.evidence[ordinal] for ordinal in ordinals]


def read_answers(
    answers: Answers, prompt: int, tokenizers: Tokenizers, *, evidence_stage: bool
) -> list[Reading]:
    """Read what every window answered to one prompt, in the order of the windows.

    evidence_stage: of the model that answered, see `D2VLMConfig`.
    """
    readings = []
    for window, generation in zip(answers.windows, answers.of(prompt), strict=True):
        intervals = [
            answers.seconds(window.start + evidence.first, window.start + evidence.last)
            for evidence in generation.evidence
        ]
        tokens, ids, decode = generation.token_ids, tokenizers.ids, tokenizers.decode
        parsed = parse_answer(tokens, ids=ids, decode=decode, evidence_stage=evidence_stage)
        text = answer_text(tokens, intervals, ids=ids, decode=decode, evidence_stage=evidence_stage)
        readings.append(Reading(window, generation, parsed, text))
    return readings


def answer_notes(answers: Answers, readings: Sequence[Reading]) -> list[str]:
    """What a reader of the result should know about the answers: a note per kind of problem."""
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
    """Where a problem was met, short enough to read even for a day of video."""
    if len(places) <= _PLACES_NAMED:
        return ", ".join(places)
    return f"{places[0]} and {len(places) - 1} more of {windows} windows"
