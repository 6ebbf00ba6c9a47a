"""The fields of one annotated sample: types, ranges, and whether they fit together.

Knows no files, and not what a sample is used for.
"""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from reprlib import repr as shortened
from typing import Any, TypeGuard

from vidground.language.prompts import FRAMES
from vidground.language.tokenizers import EVIDENCE, EVIDENCE_END

DURATION_TOLERANCE_S = 1.0
"""How much later than its video an interval may end: annotators count in whole seconds."""

_LONGEST_S = 1e7
_LONGEST_PATH, _LONGEST_NAME = 4000, 255  # bytes that file systems accept
_OTHER_FRAMES = "<video>"  # the placeholder of other data sets
_SPEAKERS = ("human", "gpt")
# Would end a turn or start another in the middle of an answer.
_CONTROL = re.compile(r"<\|[^\s<>]*\|>|</?s>|<unk>|<image>")


class FieldError(ValueError):
    """What is wrong with a sample or a file, which the message does not name."""


def label_of(sample: dict[str, Any], name: str) -> str:
    """Return a short text that must not be blank, such as the task."""
    value = sample.get(name)
    if not _is_text(value):
        raise FieldError(f"{name} is {shortened(value)}; it must be a text")
    return value


def video_of(sample: dict[str, Any]) -> str:
    """Return the relative path of the video, with /."""
    value = label_of(sample, "video")
    path = PurePosixPath(value)
    if "\\" in value or "\0" in value or path.is_absolute() or ".." in path.parts:
        raise FieldError(
            f"video is {shortened(value)}; it must be a relative path, with /, that stays inside "
            "the videos' folder"
        )
    encoded = value.encode("utf-8", "replace")
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME:
        raise FieldError(
            f"video is {shortened(value)}, of {len(encoded):,} bytes; a path has at most "
            f"{_LONGEST_PATH:,}, and each name in it {_LONGEST_NAME}"
        )
    return value


def duration_of(sample: dict[str, Any]) -> float:
    """Return the video's duration in seconds."""
    value = sample.get("duration")
    if not is_number(value) or value <= 0:
        raise FieldError(f"duration is {shortened(value)}; it must be a number of seconds above 0")
    return float(value)


def seconds_of(value: Any, name: str) -> tuple[float, ...]:
    """Return a list of seconds; () for None."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise FieldError(f"{name} is {shortened(value)}; it must be a list of seconds")
    for number in value:
        if not is_number(number):
            raise FieldError(
                f"{name} holds {shortened(number)}; it must hold finite numbers of seconds"
            )
    return tuple(map(float, value))


def turns_of(value: Any, name: str) -> tuple[str, str]:
    """Return question and answer of a conversation of exactly these two turns, stripped."""
    if not isinstance(value, list) or len(value) != len(_SPEAKERS):
        found = f"{len(value)} turns" if isinstance(value, list) else shortened(value)
        raise FieldError(f"{name}: {found}; needs two turns, one of human and one of gpt")
    texts = []
    for turn, speaker in zip(value, _SPEAKERS, strict=True):
        if not isinstance(turn, dict) or turn.get("from") != speaker:
            raise FieldError(
                f"{name}: {shortened(turn)} is not a turn of {speaker}; first human, then gpt"
            )
        text = turn.get("value")
        if not _is_text(text):
            raise FieldError(
                f"{name}: the turn of {speaker} says {shortened(text)}; it needs a text"
            )
        texts.append(text.strip())
    return texts[0], texts[1]


def check_prompt(question: str, src: tuple[float, ...], duration_s: float) -> None:
    """Check that a question has a text, one place for frames, and intervals for its `<evi>`.

    Raises:
        FieldError: it has not.
    """
    _refuse_other_placeholder(question, "the question")
    if question.count(FRAMES) > 1:
        raise FieldError(f"the question has {FRAMES} {question.count(FRAMES)} times; at most once")
    if not question.replace(FRAMES, "").strip():
        raise FieldError(f"the question has no text beside {FRAMES}")
    # One number stands for an instant.
    intervals = src * 2 if len(src) == 1 else src
    _check_intervals(intervals, duration_s, "src")
    _check_count(question.count(EVIDENCE), len(intervals) // 2, "the question", "src")
    if EVIDENCE_END in question:
        raise FieldError(f"the question holds {EVIDENCE_END}, which belongs in answers only")


def check_response(text: str, tgt: tuple[float, ...], duration_s: float, name: str) -> None:
    """Check that a response has K `<evi>` before `</evi>` and K after it for its K intervals.

    Raises:
        FieldError: it has not, or an interval is not in the video.
    """
    _refuse_other_placeholder(text, name)
    control = _CONTROL.search(text)
    if control:
        raise FieldError(f"{name} holds the control token {control.group()}; remove it")
    _check_intervals(tgt, duration_s, "tgt")
    stage, end, answer = text.rpartition(EVIDENCE_END)
    if EVIDENCE_END in stage:
        raise FieldError(
            f"{name} has several {EVIDENCE_END}; only one may close the evidence stage"
        )
    if stage.replace(EVIDENCE, "").strip():
        raise FieldError(f"{name} has text before {EVIDENCE_END}; only {EVIDENCE} may stand there")
    intervals = len(tgt) // 2
    _check_count(stage.count(EVIDENCE), intervals, f"{name} before {EVIDENCE_END}", "tgt")
    _check_count(answer.count(EVIDENCE), intervals, f"{name} after {EVIDENCE_END}", "tgt")
    if end and not answer.strip():
        raise FieldError(f"{name} has no text after {EVIDENCE_END}")


def _check_intervals(times_s: tuple[float, ...], duration_s: float, name: str) -> None:
    if len(times_s) % 2:
        raise FieldError(f"{name} has {len(times_s)} numbers; it needs pairs of start and end")
    limit_s = duration_s + DURATION_TOLERANCE_S
    for start, end in zip(times_s[::2], times_s[1::2], strict=True):
        if not 0 <= start <= end <= limit_s:
            raise FieldError(
                f"{name} has [{start:g}, {end:g}]; needs 0 <= start <= end <= {duration_s:g} s, "
                "the duration"
            )
        if start > duration_s or start == duration_s < end:
            raise FieldError(
                f"{name} has [{start:g}, {end:g}], wholly outside the video of {duration_s:g} s; "
                "correct the times or the duration"
            )


def _refuse_other_placeholder(text: str, name: str) -> None:
    if _OTHER_FRAMES in text:
        raise FieldError(
            f"{name} holds {_OTHER_FRAMES}, which would be read as text; the placeholder of "
            f"the frames is {FRAMES}"
        )


def _check_count(found: int, intervals: int, where: str, field: str) -> None:
    if found != intervals:
        raise FieldError(
            f"{where} has {found} {EVIDENCE} and {field} {intervals} intervals; it needs one "
            f"{EVIDENCE} for each interval"
        )


def _is_text(value: Any) -> TypeGuard[str]:
    """Return whether a value is a text that is not blank and has no lone surrogate."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number within the length of any video."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= _LONGEST_S
        and math.isfinite(value)
    )
