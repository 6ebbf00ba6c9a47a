"""The content of a report as plain data: videos, their events, curves and facts.

Results on the same video are merged, texts are made safe to show, and numbers are rounded to what
is visible. Knows no HTML and decodes no video.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidground.language.safe_text import plain_text
from vidground.results.documents import Result, video_of
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Provenance,
    Relevance,
)
from vidground.video.info import VideoInfo

CURVE_POINTS = 1000
"""Maximum number of points of a curve in a report; no screen shows more."""


@dataclass
class VideoEntry:
    """A video and the results about it.

    Attributes:
        info: facts of the file.
        place: its current path; None if it was not found.
        events: captions and moments sorted by time, each with the index of its query in `curves`,
            or None for a caption.
        curves: answers to queries.
        facts: names and values to show.
        notes: warnings of the results.
    """

    info: VideoInfo
    place: Path | None
    events: list[tuple[Event, int | None]] = field(default_factory=list)
    curves: list[GroundingResult] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, result: Result, source: Path) -> None:
        """Add a result that was read from the file `source`."""
        if isinstance(result, Captions):
            self.events += [(event, None) for event in result.events]
            made, kind = result.provenance, "Captions"
            self.notes += result.warnings
        else:
            for answer in result.results:
                query = len(self.curves)
                self.curves.append(answer)
                self.notes += answer.warnings
                for moment in answer.moments:
                    event = Event(moment.start_s, moment.end_s, answer.query, moment.score)
                    self.events.append((event, query))
            made, kind = result.results[0].provenance, "Queries"
        self.events.sort(key=lambda item: (item[0].start_s, item[0].end_s))
        self.facts.append((kind, f"{_made_by(made)}; {visible_name(source.name)}"))


def key_of(result: Result, place: Path | None) -> tuple[str, int]:
    """Return a key that is equal for results on the same video."""
    info = video_of(result)
    return (info.path if place is None else os.path.realpath(place), info.size_bytes)


def encode_entry(
    entry: VideoEntry, *, link: str | None, pictures: Sequence[str | None]
) -> dict[str, Any]:
    """Return an entry as JSON values, with the keys that the page reads.

    Args:
        entry: to encode.
        link: address of the video; None if it was not found.
        pictures: a JPEG in base64 per event; None for none.
    """
    info = entry.info
    return {
        "name": visible_name(Path(info.path).name),
        "path": visible_name(str(entry.place or info.path)),
        "link": link,
        "bytes": info.size_bytes,
        "duration": round(info.duration_s, 3),
        "codec": plain_text(info.codec),
        "events": [
            _encode_event(event, query, picture)
            for (event, query), picture in zip(entry.events, pictures, strict=True)
        ],
        "curves": [_encode_curve(answer) for answer in entry.curves],
        "facts": [*_video_facts(info), *entry.facts],
        "notes": list(dict.fromkeys(plain_text(note) for note in entry.notes)),
    }


def visible_name(name: str) -> str:
    """Return a file name with characters that are not printable escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def thin(curve: Relevance, max_points: int = CURVE_POINTS) -> list[tuple[float, float]]:
    """Return at most `max_points` points of a curve, including its peaks and valleys."""
    points = list(curve)
    if len(points) <= max_points:
        return points
    buckets = max_points // 2
    edges = [round(index * len(points) / buckets) for index in range(buckets + 1)]
    return [point for first, last in pairwise(edges) for point in _ends(points[first:last])]


def _ends(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the lowest and the highest point, in order of time."""
    lowest = min(points, key=lambda point: point[1])
    highest = max(points, key=lambda point: point[1])
    yield from sorted({lowest, highest})


def _encode_event(event: Event, query: int | None, picture: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "start": round(event.start_s, 3),
        "end": round(event.end_s, 3),
        "text": plain_text(event.text),
        "score": None if event.score is None else round(event.score, 4),
        "query": query,
    }
    return row if picture is None else row | {"picture": picture}


def _encode_curve(answer: GroundingResult) -> dict[str, Any]:
    points = thin(answer.relevance)
    return {
        "query": plain_text(answer.query),
        "answer": plain_text(answer.answer),
        "found": answer.found,
        "threshold": answer.threshold,
        "reason": answer.not_found_reason,
        "times": [round(time, 2) for time, _ in points],
        "values": [round(value, 3) for _, value in points],
    }


def _video_facts(info: VideoInfo) -> list[tuple[str, str]]:
    rate = "" if info.fps is None else f", {info.fps:.5g} frames per second"
    if info.fps is not None and not info.constant_rate:
        rate += " on average"
    return [
        ("Picture", f"{info.width} x {info.height}{rate}, {plain_text(info.codec)}"),
        ("File", f"{info.size_bytes:,} bytes; SHA-256 {plain_text(info.sha256 or 'not recorded')}"),
    ]


def _made_by(made: Provenance) -> str:
    revision = f" at {made.revision[:12]}" if made.revision else ""
    text = (
        f"{made.model}{revision}, {made.dtype}, vidground {made.vidground_version}; "
        f"{made.fps:g} sampled frames per second; time resolution {made.time_resolution_s:g} s"
    )
    return plain_text(text)
