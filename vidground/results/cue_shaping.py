"""Shape cues into subtitles: resolve overlaps, wrap, split, extend and leave gaps.

Applies `CueSettings`. Knows no file format.
"""

import math
import textwrap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby, pairwise

from vidground.results.cues import NO_TEXT, Cue, CueSettings, by_time


def shape_cues(
    cues: list[Cue], settings: CueSettings, duration_s: float, *, rate: Fraction
) -> list[Cue]:
    """Return the cues as `settings` ask for.

    Args:
        cues: sorted by time.
        duration_s: of the video, in seconds; no cue is extended past it.
        rate: frames per second of the video, for gaps that are counted in frames.

    Returns:
        The cues, sorted by time. An empty text becomes `NO_TEXT`.
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


def dashed(texts: Sequence[str]) -> str:
    """Return texts that are shown together as lines that start with a dash, as in dialogue."""
    return "\n".join(f"- {text}" for text in texts)


def trim(cues: Sequence[Cue], *, several: Callable[[Sequence[str]], str] = dashed) -> list[Cue]:
    """Return the cues, each ending no later than the next one begins.

    Cues that begin together become one that shows all their texts for as long as the longest.

    Args:
        cues: sorted by time.
        several: makes one text of several distinct ones.
    """
    groups = groupby(cues, key=lambda cue: cue.start_ms)
    joined = [_join(list(group), several) for _, group in groups]
    ends = [min(cue.end_ms, later.start_ms) for cue, later in pairwise(joined)]
    return [replace(cue, end_ms=end) for cue, end in zip(joined, ends, strict=False)] + joined[-1:]


def merge(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues that do not overlap, each showing the texts of all cues that were active.

    Every text is shown for its whole span. Adjacent cues with the same texts become one.

    Args:
        cues: sorted by time.
    """
    bounds = sorted({time for cue in cues for time in (cue.start_ms, cue.end_ms)})
    waiting, active = deque(cues), list[Cue]()
    merged: list[Cue] = []
    for start_ms, end_ms in pairwise(bounds):
        active = [cue for cue in active if cue.end_ms > start_ms]
        while waiting and waiting[0].start_ms <= start_ms:
            active.append(waiting.popleft())
        if not active:
            continue
        part = replace(_join(active), start_ms=start_ms, end_ms=end_ms)
        last = merged[-1] if merged else None
        if last is not None and (last.end_ms, last.text) == (start_ms, part.text):
            merged[-1] = replace(last, end_ms=end_ms)
        else:
            merged.append(part)
    return merged


def leave_gaps(cues: Sequence[Cue], gap_ms: int) -> list[Cue]:
    """Return the cues, each ending `gap_ms` milliseconds before the next one begins.

    A cue that would become shorter than the gap, or that overlaps the next one, is unchanged.

    Args:
        cues: sorted by time.
    """
    spaced = list(cues[-1:])
    for cue, later in reversed(list(pairwise(cues))):
        latest = later.start_ms - gap_ms
        has_room = cue.end_ms <= later.start_ms and latest - cue.start_ms >= gap_ms
        spaced.append(replace(cue, end_ms=min(cue.end_ms, latest)) if has_room else cue)
    return spaced[::-1]


def _join(cues: Sequence[Cue], several: Callable[[Sequence[str]], str] = dashed) -> Cue:
    """Return one cue over all spans, with each distinct text once."""
    if len(cues) == 1:
        return cues[0]
    texts = list(dict.fromkeys(cue.text or NO_TEXT for cue in cues))
    text = texts[0] if len(texts) == 1 else several(texts)
    return Cue(min(cue.start_ms for cue in cues), max(cue.end_ms for cue in cues), text)


def _extend(cues: list[Cue], shortest_ms: int, duration_ms: int) -> list[Cue]:
    limits = [min(cue.start_ms, duration_ms) for cue in cues[1:]] + [duration_ms]
    return [
        replace(cue, end_ms=max(cue.end_ms, min(cue.start_ms + shortest_ms, limit)))
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
        # A last line of digits alone could be read as the number of the next cue, so it gets the
        # word before it.
        rest, space, word = lines[-2].rpartition(" ")
        if space and len(word) + 1 + len(lines[-1]) <= width:
            lines[-2:] = [rest, f"{word} {lines[-1]}"]
    return lines


def _split_span(cue: Cue, longest_s: float | None) -> Iterator[Cue]:
    """Yield equal consecutive cues with the same text, none longer than `longest_s` seconds."""
    span_ms = cue.end_ms - cue.start_ms
    parts = 1 if longest_s is None else math.ceil(span_ms / round(longest_s * 1000))
    bounds = [cue.start_ms + span_ms * index // parts for index in range(parts + 1)]
    for start_ms, end_ms in pairwise(bounds):
        yield replace(cue, start_ms=start_ms, end_ms=end_ms)
