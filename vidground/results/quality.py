"""Numbers that show how far to trust captions before looking at them.

Computed from the events and the duration of their video alone.
"""

import math
from collections.abc import Iterable

from vidground.errors import InputError
from vidground.results.types import Event

_ROUNDING_S = 0.001  # times that differ by less are equal in most formats


def caption_quality(
    events: Iterable[Event],
    duration_s: float,
    *,
    truncated: bool,
    joined: int = 0,
    damaged_packets: int = 0,
) -> dict[str, float | int | bool]:
    """Return the quality numbers of captions.

    Args:
        events: in any order.
        duration_s: of the video, in seconds, 0 or above.
        truncated: whether an answer of the model was cut off.
        joined: number of events that were merged with an equal one that they touch.
        damaged_packets: of the video.

    Returns:
        `coverage`: share of the duration that lies in at least one event, in [0, 1].
        `longest_gap_s`: longest time without an event, also before the first and after the last.
        `repeated`: events whose text equals that of the event before, ignoring case, spacing and
        final punctuation.
        `overlaps`: events that start before an earlier one has ended.
        `out_of_range`: events that end after the video (no event ends before it starts).
        `truncated`, `joined`, `damaged_packets`: as given.

    Raises:
        InputError: the duration is negative or not finite.
    """
    if not 0 <= duration_s < math.inf:
        raise InputError(f"duration is {duration_s} s; it must be finite and not negative")
    ordered = sorted(events, key=lambda event: (event.start_s, event.end_s))
    covered_s = longest_gap_s = covered_until_s = last_end_s = 0.0
    overlaps = repeated = out_of_range = 0
    previous: str | None = None
    for event in ordered:
        overlaps += event.start_s < last_end_s
        out_of_range += event.end_s > duration_s + _ROUNDING_S
        last_end_s = max(last_end_s, event.end_s)
        start_s, end_s = min(event.start_s, duration_s), min(event.end_s, duration_s)
        longest_gap_s = max(longest_gap_s, start_s - covered_until_s)
        covered_s += max(0.0, end_s - max(start_s, covered_until_s))
        covered_until_s = max(covered_until_s, end_s)
        text = _normalised(event.text)
        repeated += text == previous
        previous = text
    return {
        "coverage": min(1.0, covered_s / duration_s) if duration_s else 0.0,
        "longest_gap_s": max(longest_gap_s, duration_s - covered_until_s),
        "repeated": repeated,
        "overlaps": overlaps,
        "out_of_range": out_of_range,
        "truncated": truncated,
        "joined": joined,
        "damaged_packets": damaged_packets,
    }


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!?… ")
