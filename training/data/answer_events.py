"""Annotated answers parsed into events, and events formatted as answers.

An answer is `<evi>` for each interval, `</evi>`, then text that holds the same `<evi>` again:
captions (`<evi>, a person sits down. <evi>, …`) or a list (`The action happens in <evi>, and
<evi>.`). Knows neither token ids nor files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END
from vidground.training.data.interval_metrics import Interval

FOUND = "The event happens in "
"""What an answer to a grounding question says before the intervals it found."""

NOT_FOUND = "The event does not happen."
"""Answer, without evidence, to a grounding question about what is not in the video."""

_CAPTION = re.compile(r"([\s,:]*)(.*?)([\s.]*)", re.DOTALL)
_JOINT = re.compile(r"[\s,]*(?:and\b)?[\s,]*")  # between the members of a list


@dataclass(frozen=True, slots=True)
class AnnotatedAnswer:
    """An answer as its intervals and the text around them.

    Attributes:
        intervals: in the order of the answer.
        lead: text before the first `<evi>`.
        captions: text of each interval; empty for a list. Without intervals, the whole answer as a
            single caption.
        opening: text between an `<evi>` and its caption.
        closing: text after a caption.
        tail: text after a list.
    """

    intervals: tuple[Interval, ...]
    lead: str = ""
    captions: tuple[str, ...] = ()
    opening: str = ""
    closing: str = ""
    tail: str = ""

    @property
    def times_s(self) -> list[float]:
        """The intervals as flat pairs, as in annotations."""
        return [time_s for interval in self.intervals for time_s in interval]

    def text(self) -> str:
        """Return the whole response."""
        stage = EVIDENCE * len(self.intervals) + EVIDENCE_END
        if not self.captions:
            return stage + self.lead + _enumerated(len(self.intervals)) + self.tail
        evidence = EVIDENCE if self.intervals else ""
        parts = (f"{evidence}{self.opening}{caption}{self.closing}" for caption in self.captions)
        return stage + self.lead + " ".join(parts)

    def with_events(
        self, intervals: Sequence[Interval], captions: Sequence[str]
    ) -> AnnotatedAnswer:
        """Return an answer of the same form for other events."""
        return replace(self, intervals=tuple(intervals), captions=tuple(captions))


def read_answer(text: str, times_s: Sequence[float]) -> AnnotatedAnswer | None:
    """Parse an annotated answer; None if `text()` would not give the same text again.

    Args:
        text: the whole response.
        times_s: flat pairs of seconds, one for each interval.

    Raises:
        InputError: the intervals do not match the `<evi>` of the answer.
    """
    stage, _, answer = text.rpartition(EVIDENCE_END)
    lead, *segments = answer.split(EVIDENCE)
    if not len(times_s) == 2 * len(segments) == 2 * stage.count(EVIDENCE):
        raise InputError(
            f"an answer has {len(times_s)} times, {stage.count(EVIDENCE)} <evi> before </evi> and "
            f"{len(segments)} after it; each interval needs two times and one <evi> in both"
        )
    intervals = tuple(zip(times_s[::2], times_s[1::2], strict=True))
    if not segments:
        found = _captioned((), "", [lead])
    elif _is_list(segments):
        found = AnnotatedAnswer(intervals, lead=lead, tail=segments[-1])
    else:
        found = _captioned(intervals, lead, segments)
    whole = text if EVIDENCE_END in text else EVIDENCE_END + text
    return found if found.text() == whole else None


def _is_list(segments: Sequence[str]) -> bool:
    """Return whether the intervals have no captions; a single one, no words after it."""
    *between, last = segments
    if between:
        return all(_JOINT.fullmatch(segment) for segment in between)
    return not any(letter.isalnum() for letter in last)


def _captioned(
    intervals: tuple[Interval, ...], lead: str, segments: Sequence[str]
) -> AnnotatedAnswer:
    parts = [match.groups() for s in segments if (match := _CAPTION.fullmatch(s)) is not None]
    opening, _, closing = parts[0]
    captions = tuple(caption for _, caption, _ in parts)
    return AnnotatedAnswer(intervals, lead, captions, opening, closing.rstrip())


def _enumerated(count: int) -> str:
    """Return `count` `<evi>` as a list in prose."""
    *rest, last = [EVIDENCE] * count
    return ", ".join([*rest, f"and {last}"]) if rest else last
