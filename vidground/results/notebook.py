"""Results as HTML for notebooks: a timeline, relevance curves and a table.

No script, no address of a network.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence

from vidground.language.safe_text import plain_text
from vidground.results.cues import clock
from vidground.results.types import Captions, Event, GroundingResult, Groundings, Moment

_WIDTH, _LANE, _CURVE = 720, 18, 60  # pixels
_MOST_ROWS = 50
_MOST_POINTS = 1000
_BAR = "#4c78a8"


def captions_html(captions: Captions) -> str:
    """Return the events of a video as a timeline and a table."""
    lanes = _lanes(captions.events)
    height = _LANE * max(1, len(lanes))
    bars = "".join(
        _bar(event, number * _LANE, _LANE, captions.video.duration_s, event.text)
        for number, lane in enumerate(lanes)
        for event in lane
    )
    rows = ((event, event.text) for event in captions.events)
    heading = f"{len(captions.events)} events in {captions.video.path}"
    return _page(heading, [_svg(bars, height), _table(rows, len(captions.events))])


def groundings_html(groundings: Groundings) -> str:
    """Return each query of a video as its relevance curve with the moments, and the answer."""
    parts = [part for result in groundings.results for part in _grounding(result)]
    return _page(groundings.results[0].video.path, parts)


def _grounding(result: GroundingResult) -> Iterator[str]:
    said = result.not_found_reason
    found = f"not found: {said}" if said else f"{len(result.moments)} found"
    yield f"<p><b>{_escaped(result.query)}</b> - {_escaped(found)}</p>"
    duration_s = result.video.duration_s
    bars = "".join(_bar(m, 0, _CURVE, duration_s, result.query) for m in result.moments)
    limit = _CURVE * (1 - result.threshold)
    line = f'<line x1="0" x2="{_WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}" stroke="#999" />'
    yield _svg(bars + line + _curve(result, duration_s), _CURVE)
    yield _table(((moment, "") for moment in result.moments), len(result.moments))
    yield f"<p>{_escaped(result.answer)}</p>"


def _curve(result: GroundingResult, duration_s: float) -> str:
    step = max(1, len(result.relevance) // _MOST_POINTS)
    points = " ".join(
        f"{_x(time_s, duration_s):.1f},{_CURVE * (1 - value):.1f}"
        for time_s, value in list(result.relevance)[::step]
    )
    return f'<polyline points="{points}" fill="none" stroke="#e45756" stroke-width="1.5" />'


def _lanes(events: Sequence[Event]) -> list[list[Event]]:
    """Spread events over lanes, so that none overlaps another in its lane."""
    lanes: list[list[Event]] = []
    for event in sorted(events, key=lambda item: item.start_s):
        for lane in lanes:
            if lane[-1].end_s <= event.start_s:
                lane.append(event)
                break
        else:
            lanes.append([event])
    return lanes


def _bar(item: Event | Moment, y: int, height: int, duration_s: float, text: str) -> str:
    left = _x(item.start_s, duration_s)
    width = max(1.0, _x(item.end_s, duration_s) - left)
    return (
        f'<rect x="{left:.1f}" y="{y + 1}" width="{width:.1f}" height="{height - 2}" rx="2" '
        f'fill="{_BAR}" fill-opacity="0.5"><title>{_span(item)} {_escaped(text)}</title></rect>'
    )


def _table(rows: Iterable[tuple[Event | Moment, str]], count: int) -> str:
    cells = [
        f"<tr><td>{_span(item)}</td><td>{_score(item)}</td><td>{_escaped(text)}</td></tr>"
        for _, (item, text) in zip(range(_MOST_ROWS), rows, strict=False)
    ]
    if count > _MOST_ROWS:
        cells.append(f"<tr><td>… and {count - _MOST_ROWS} more</td></tr>")
    return f"<table><tr><th>time</th><th>score</th><th></th></tr>{''.join(cells)}</table>"


def _page(heading: str, parts: Iterable[str]) -> str:
    return f"<div><p>{_escaped(heading)}</p>{''.join(parts)}</div>"


def _svg(content: str, height: int) -> str:
    return f'<svg width="{_WIDTH}" height="{height}" style="background:#f4f4f4">{content}</svg>'


def _x(time_s: float, duration_s: float) -> float:
    return _WIDTH * min(1.0, time_s / duration_s) if duration_s > 0 else 0.0


def _span(item: Event | Moment) -> str:
    return f"{clock(round(1000 * item.start_s), '.')} - {clock(round(1000 * item.end_s), '.')}"


def _score(item: Event | Moment) -> str:
    return "" if item.score is None else f"{item.score:.2f}"


def _escaped(text: str) -> str:
    return html.escape(plain_text(text))
