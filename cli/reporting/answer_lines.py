"""Results in lines that people read at a glance."""

from __future__ import annotations

from collections.abc import Iterator

from vidground.cli.reporting.reporter import shown
from vidground.results.cues import clock
from vidground.results.documents import Result
from vidground.results.types import Captions, Event, GroundingResult, Moment

MOST_EVENTS = 20
"""Events of one video that are shown; the rest is counted."""


def answer_lines(result: Result) -> Iterator[str]:
    """Yield the captions of a video, or for each query its moments and the model's answer.

    Untrusted text is escaped. A query for which nothing was found has a line that says why.
    """
    if isinstance(result, Captions):
        for event in result.events[:MOST_EVENTS]:
            yield f"  {_span(event)}  {shown(event.text)}{_score(event)}"
        if len(result.events) > MOST_EVENTS:
            yield f"  … and {len(result.events) - MOST_EVENTS} more"
        return
    for grounding in result.results:
        yield from _grounding_lines(grounding)


def _grounding_lines(result: GroundingResult) -> Iterator[str]:
    reason = result.not_found_reason
    yield f'  "{shown(result.query)}"' + (f": not found, {reason}" if reason else "")
    for moment in result.moments[:MOST_EVENTS]:
        yield f"    {_span(moment)}{_score(moment)}"
    if len(result.moments) > MOST_EVENTS:
        yield f"    … and {len(result.moments) - MOST_EVENTS} more"
    if result.answer:
        yield f"    answer: {shown(result.answer)}"


def _span(interval: Event | Moment) -> str:
    start, end = (clock(round(1000 * s), ".") for s in (interval.start_s, interval.end_s))
    return f"{start} - {end}"


def _score(interval: Event | Moment) -> str:
    return "" if interval.score is None else f"  (score {interval.score:.2f})"
