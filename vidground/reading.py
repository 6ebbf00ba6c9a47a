"""Raw answers read: what they refer to, their text with times, what went wrong in them.

Grounding and captioning start from here; knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vidground.engine import Answers
from vidground.generation import Evidence, Generation
from vidground.parsing import ParsedAnswer, answer_text, parse_answer
from vidground.tokens import Tokenizers
from vidground.windows import Window


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


def read_answers(answers: Answers, prompt: int, tokenizers: Tokenizers) -> list[Reading]:
    """Read what every window answered to one prompt, in the order of the windows."""
    readings = []
    for window, generation in zip(answers.windows, answers.of(prompt), strict=True):
        intervals = [
            answers.seconds(window.start + evidence.first, window.start + evidence.last)
            for evidence in generation.evidence
        ]
        ids, decode = tokenizers.ids, tokenizers.decode
        parsed = parse_answer(generation.token_ids, ids=ids, decode=decode)
        text = answer_text(generation.token_ids, intervals, ids=ids, decode=decode)
        readings.append(Reading(window, generation, parsed, text))
    return readings


def answer_notes(answers: Answers, readings: Sequence[Reading]) -> list[str]:
    """What a reader of the result should know about the answers, window by window."""
    notes = []
    for reading in readings:
        window = reading.window
        at = f"{answers.times_s[window.start]:.0f} - {answers.times_s[window.stop - 1]:.0f} s"
        if reading.generation.truncated:
            count = len(reading.generation.token_ids)
            notes.append(f"{at}: the answer was cut off at the cap of {count} tokens")
        notes.extend(f"{at}: {problem}" for problem in reading.parsed.problems)
    return notes
