"""Shaping: cues wrapped, split, extended and kept apart as `CueSettings` say. Knows no format."""

import math
import textwrap
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from vidground.results.cues import NO_TEXT, Cue, CueSettings, by_time
from vidground.results.overlaps import leave_gaps, merge, trim


def shape_cues(
    cues: list[Cue], settings: CueSettings, duration_s: float, *, rate: Fraction
) -> list[Cue]:
    """Return cues, given by time, shaped as `settings` say, by time.

    duration_s: the video's; no cue is extended past it. rate: the video's frames per second, for
    gaps that are counted in frames. Text that is empty becomes `NO_TEXT`.
    """
    settings = settings.resolved()
    if settings.overlap != "keep":
        cues = trim(cues) if settings.overlap == "trim" else merge(cues)
    if cues and settings.min_duration_s is not None:
        cues = _extend(cues, round(settings.min_duration_s * 1000), round(duration_s * 1000))
    shaped: list[Cue] = []
    for cue in cues:
        for part in _split_text(cue, settings.max_line_width, settings.max_line_count):
            shaped.extend(_split_span(part, settings.max_duration_s))
    return leave_gaps(by_time(shaped), math.ceil(settings.gap_frames * 1000 / rate))


def _extend(cues: list[Cue], shortest_ms: int, duration_ms: int) -> list[Cue]:
    limits = [min(cue.start_ms, duration_ms) for cue in cues[1:]] + [duration_ms]
    return [
        Cue(
            cue.start_ms,
            max(cue.end_ms, min(cue.start_ms + shortest_ms, limit)),
            cue.text,
            cue.score,
        )
        for cue, limit in zip(cues, limits, strict=True)
    ]


def _split_text(cue: Cue, width: int | None, count: int | None) -> Iterator[Cue]:
    """Yield consecutive cues of at most `count` lines over the cue's span."""
    lines = [line for text in (cue.text or NO_TEXT).split("\n") for line in _wrap(text, width)]
    span_ms = cue.end_ms - cue.start_ms
    parts = min(math.ceil(len(lines) / (count or len(lines))), span_ms)
    per_part = math.ceil(len(lines) / parts)
    texts = ["\n".join(lines[i : i + per_part]) for i in range(0, len(lines), per_part)]
    total, done, bounds = sum(map(len, texts)), 0, [cue.start_ms]
    for index, text in enumerate(texts, 1):
        done += len(text)
        bound = cue.start_ms + round(span_ms * done / total)
        # Every part before and after this bound keeps at least 1 ms.
        latest = cue.end_ms - (len(texts) - index)
        bounds.append(min(max(bound, bounds[-1] + 1), latest))
    for (start_ms, end_ms), text in zip(pairwise(bounds), texts, strict=True):
        yield Cue(start_ms, end_ms, text, cue.score)


def _wrap(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    if len(lines) > 1 and lines[-1].isdigit():
        # A last line of digits reads like the next cue's number: a word keeps it company.
        rest, space, word = lines[-2].rpartition(" ")
        if space and len(word) + 1 + len(lines[-1]) <= width:
            lines[-2:] = [rest, f"{word} {lines[-1]}"]
    return lines


def _split_span(cue: Cue, longest_s: float | None) -> Iterator[Cue]:
    """Yield equal consecutive cues, none longer than `longest_s`, with the same text."""
    span_ms = cue.end_ms - cue.start_ms
    parts = 1 if longest_s is None else math.ceil(span_ms / round(longest_s * 1000))
    bounds = [cue.start_ms + span_ms * index // parts for index in range(parts + 1)]
    for start_ms, end_ms in pairwise(bounds):
        yield Cue(start_ms, end_ms, cue.text, cue.score)
