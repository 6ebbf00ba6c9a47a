"""Overlaps: cues put so that at most one is shown at a time, and with room between them.

Knows neither settings nor file formats.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from vidground.results.cues import NO_TEXT, Cue


def trim(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues, given by time, each of which ends where the next begins at the latest.

    Cues that begin together become one that shows their texts as long as the longest of them.
    """
    starts = [_together(list(group)) for _, group in groupby(cues, key=lambda cue: cue.start_ms)]
    ends = [min(cue.end_ms, later.start_ms) for cue, later in pairwise(starts)]
    return [replace(cue, end_ms=end) for cue, end in zip(starts, ends, strict=False)] + starts[-1:]


def merge(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues, given by time, cut so that each shows the texts of all that overlap there.

    Every text is shown during its whole span. Cues that touch and show the same become one.
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
        part = replace(_together(active), start_ms=start_ms, end_ms=end_ms)
        last = merged[-1] if merged else None
        if last is not None and (last.end_ms, last.text) == (start_ms, part.text):
            merged[-1] = replace(last, end_ms=end_ms)
        else:
            merged.append(part)
    return merged


def leave_gaps(cues: Sequence[Cue], gap_ms: int) -> list[Cue]:
    """Return cues, given by time, that end `gap_ms` before the next one begins.

    A cue that would become shorter than the gap, or that overlaps the next, stays as it is.
    """
    spaced = list(cues[-1:])
    for cue, later in reversed(list(pairwise(cues))):
        latest = later.start_ms - gap_ms
        room = cue.end_ms <= later.start_ms and latest - cue.start_ms >= gap_ms
        spaced.append(replace(cue, end_ms=min(cue.end_ms, latest)) if room else cue)
    return spaced[::-1]


def _together(cues: Sequence[Cue]) -> Cue:
    """Return one cue over the spans of all with their texts, each once; several get a dash."""
    texts = list(dict.fromkeys(cue.text or NO_TEXT for cue in cues))
    if len(cues) == 1:
        return cues[0]
    text = texts[0] if len(texts) == 1 else "\n".join(f"- {text}" for text in texts)
    return Cue(min(cue.start_ms for cue in cues), max(cue.end_ms for cue in cues), text)
