"""Apply subtitles that somebody corrected to the result that they were made from.

What is unchanged keeps its unrounded times and its score, so that `vidground data pairs` finds
only what was really corrected. Knows no file format.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vidground.errors import FormatError
from vidground.language.safe_text import plain_text
from vidground.results.cues import NO_TEXT, Cue, clock, to_cues
from vidground.results.documents import Result
from vidground.results.quality import caption_quality
from vidground.results.subtitles import shorten_arrows
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Groundings,
    Moment,
    Relevance,
)

_MOST_QUERIES_SHOWN = 5


def correct(result: Result, cues: Sequence[Cue]) -> Result:
    """Return a result with the times and texts of corrected subtitles.

    Captions get the cues as their events. For answers to queries, a cue's text says which query it
    is a moment of; a query without cues becomes one that was not found.

    Args:
        result: what the subtitles were made from, without wrapping or splitting.
        cues: sorted by time; see `vidground.results.subtitle_reading.read_cues`.

    Returns:
        The result, equal to the original if nothing was changed, else with `corrected` in its
        provenance. A changed event has no score; a changed moment has the mean relevance of its
        frames, or none if the model matches frames. The model's own answers and the warnings stay.

    Raises:
        FormatError: a cue of an answer names none of its queries.
    """
    if isinstance(result, Captions):
        return _correct_captions(result, cues)
    queries = {_shown(answer.query): answer.query for answer in result.results[::-1]}
    for cue in cues:
        if _shown(cue.text) not in queries:
            known = [repr(query) for query in queries.values()][::-1][:_MOST_QUERIES_SHOWN]
            raise FormatError(
                f"the cue at {clock(cue.start_ms, '.')} says {cue.text!r}, which is none of the "
                f"queries ({', '.join(known)}); a cue must hold the text of its query"
            )
    corrected, taken = [], set[str]()
    for answer in result.results:
        own = [cue for cue in cues if _shown(cue.text) == _shown(answer.query)]
        # A query that was asked twice: the first answer gets the cues, the second one stays.
        corrected.append(answer if answer.query in taken else _correct_answer(answer, own))
        taken.add(answer.query)
    return Groundings(tuple(corrected))


def _correct_captions(result: Captions, cues: Sequence[Cue]) -> Captions:
    events = tuple(_events(cues, result.events))
    if sorted(events, key=_order) == sorted(result.events, key=_order):
        return result
    quality = caption_quality(
        events,
        result.video.duration_s,
        truncated=bool(result.quality.get("truncated", False)),
        joined=int(result.quality.get("joined", 0)),
        damaged_packets=result.video.damaged_packets,
    )
    return replace(
        result,
        events=events,
        provenance=replace(result.provenance, corrected=True),
        quality={**result.quality, **quality},
    )


def _correct_answer(answer: GroundingResult, cues: Sequence[Cue]) -> GroundingResult:
    before = [Event(m.start_s, m.end_s, answer.query, m.score) for m in answer.moments]
    events = _events(cues, before)
    if sorted(events, key=_order) == sorted(before, key=_order):
        return answer
    # Frames between two matched ones have no relevance that says anything of the moment.
    matched = answer.provenance.runtime.get("time_tokens") == "matching"
    moments = [
        Moment(
            event.start_s,
            event.end_s,
            _relevance(answer.relevance, event)
            if event.score is None and not matched
            else event.score,
        )
        for event in events
    ]
    return replace(
        answer,
        found=bool(moments),
        moments=tuple(sorted(moments, key=lambda moment: -(moment.score or 0.0))),
        provenance=replace(answer.provenance, corrected=True),
    )


def _events(cues: Sequence[Cue], before: Iterable[Event]) -> list[Event]:
    """Return the cues as events; those that are unchanged are the events of before."""
    unchanged: dict[tuple[int, int, str], list[Event]] = {}
    starts_s: dict[int, float] = {}
    ends_s: dict[int, float] = {}
    for event in before:
        (cue,) = to_cues([event])
        unchanged.setdefault((cue.start_ms, cue.end_ms, _shown(cue.text)), []).append(event)
        starts_s.setdefault(cue.start_ms, event.start_s)
        ends_s.setdefault(cue.end_ms, event.end_s)
    events = []
    for cue in cues:
        same = unchanged.get((cue.start_ms, cue.end_ms, _shown(cue.text)))
        if same:
            events.append(same.pop(0))
            continue
        # A time that was not touched keeps what rounding to milliseconds took away.
        start_s = starts_s.get(cue.start_ms, cue.start_ms / 1000)
        end_s = ends_s.get(cue.end_ms, cue.end_ms / 1000)
        if start_s >= end_s:
            start_s, end_s = cue.start_ms / 1000, cue.end_ms / 1000
        events.append(Event(start_s, end_s, plain_text(cue.text)))
    return events


def _relevance(relevance: Relevance, event: Event) -> float:
    """Return the mean relevance of an event's frames, or that of the nearest one."""
    inside = [value for time_s, value in relevance if event.start_s <= time_s < event.end_s]
    if inside:
        return sum(inside) / len(inside)
    middle_s = (event.start_s + event.end_s) / 2
    nearest = min(relevance, key=lambda pair: abs(pair[0] - middle_s), default=(0.0, 0.0))
    return nearest[1]


def _shown(text: str) -> str:
    """Return a text as subtitles show it, whichever of their formats it went through."""
    return shorten_arrows(plain_text(text) or NO_TEXT)


def _order(event: Event) -> tuple[float, float, str]:
    return event.start_s, event.end_s, event.text
