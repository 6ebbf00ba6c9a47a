"""What vidground returns: moments, events, curves, and what is known of the video behind them.

All seconds are floats on the video's own timeline as a player shows it: 0 is the first frame,
intervals are half-open [start_s, end_s). Knows neither torch nor any file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.video.info import VideoInfo


def _check_interval(owner: str, start_s: float, end_s: float, score: float | None) -> None:
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s):
        raise InputError(f"{owner} [{start_s}, {end_s}): needs finite 0 <= start_s < end_s")
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"{owner} score is {score}; it must lie in [0, 1]")


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of video that fits a query.

    score: mean relevance of its frames, in [0, 1] (see `Relevance`).
    """

    start_s: float
    end_s: float
    score: float

    def __post_init__(self) -> None:
        _check_interval("Moment", self.start_s, self.end_s, self.score)


@dataclass(frozen=True, slots=True)
class Event:
    """A captioned stretch of video.

    score: mean relevance of its frames to the caption's evidence, in [0, 1]; None if unknown.
    """

    start_s: float
    end_s: float
    text: str
    score: float | None = None

    def __post_init__(self) -> None:
        _check_interval("Event", self.start_s, self.end_s, self.score)


@dataclass(frozen=True, slots=True)
class Relevance:
    """How much each sampled frame belongs to what was asked for.

    times_s: the T sampled instants, rising. values: T numbers in [0, 1], sigmoid of the
    similarity between the evidence and the frame (paper, section 3.2).
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times_s) != len(self.values):
            raise InputError(f"Relevance: {len(self.times_s)} times, {len(self.values)} values")

    def __len__(self) -> int:
        return len(self.times_s)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.times_s, self.values, strict=True)

    def __repr__(self) -> str:
        return f"Relevance({len(self)} frames, peak {max(self.values, default=0.0):.3f})"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything that made a result, so that it can be made again.

    model, revision: id or folder, and commit if known. prompt: the text given to the model.
    windows_s: the [start, end) stretches seen at once. fps, decoding: see `settings`.
    time_resolution_s: no time in the result is finer than this. settings: further numbers that
    the result depends on: overlap; window_s and max_moments where they were set; weight_bits, 8,
    where the language model's weights were held in so many. about_s: the intervals that the prompt
    refers to. runtime: device, attention, a digest of the model's files if it is no commit of the
    hub, and the versions of torch, transformers and PyAV. The last three are empty in results of
    older versions.
    """

    model: str
    revision: str | None
    vidground_version: str
    dtype: str
    prompt: str
    fps: float
    windows_s: tuple[tuple[float, float], ...]
    decoding: Mapping[str, float | int]
    time_resolution_s: float
    settings: Mapping[str, float | int] = field(default_factory=dict)
    about_s: tuple[tuple[float, float], ...] = ()
    runtime: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroundingResult:
    """The answer to one query on one video.

    query: as asked. found: whether the best moment reaches the threshold. moments: best first;
    empty unless found. answer: the model's sentence, evidence written as times in seconds.
    relevance: one number per sampled frame. threshold: what `found` was decided by.
    warnings: what the reader should know (truncated answer, damaged file, …). quality: numbers
    on that; empty in results of older versions.
    """

    query: str
    found: bool
    moments: tuple[Moment, ...]
    answer: str
    relevance: Relevance
    threshold: float
    video: VideoInfo
    provenance: Provenance
    warnings: tuple[str, ...] = ()
    quality: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time_resolution_s(self) -> float:
        """Times are no finer than this: the distance of sampled frames, in seconds."""
        return self.provenance.time_resolution_s

    def save(self, path: str | Path) -> None:
        """Write this one result; see `Groundings.save`."""
        Groundings((self,)).save(path)


@dataclass(frozen=True, slots=True)
class Groundings:
    """The answers to several queries on one video, in the order asked. At least one."""

    results: tuple[GroundingResult, ...]

    def __post_init__(self) -> None:
        if not self.results:
            raise InputError("Groundings: needs at least one result")

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[GroundingResult]:
        return iter(self.results)

    @property
    def events(self) -> tuple[Event, ...]:
        """All moments as events whose text is the query, by time."""
        events = [
            Event(moment.start_s, moment.end_s, result.query, moment.score)
            for result in self.results
            for moment in result.moments
        ]
        return tuple(sorted(events, key=lambda e: (e.start_s, e.end_s)))

    def save(self, path: str | Path) -> None:
        """Write to `path` in the format of its suffix (see `vidground.results.formats`)."""
        from vidground.results.formats import save

        save(self, path)


@dataclass(frozen=True, slots=True)
class Captions:
    """The events of one video, by time. Iterable; `len` counts events.

    answers: the model's raw answer per window, evidence written as times in seconds.
    """

    events: tuple[Event, ...]
    video: VideoInfo
    provenance: Provenance
    answers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quality: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    @property
    def time_resolution_s(self) -> float:
        """Times are no finer than this: the distance of sampled frames, in seconds."""
        return self.provenance.time_resolution_s

    def save(self, path: str | Path) -> None:
        """Write to `path` in the format of its suffix (see `vidground.results.formats`)."""
        from vidground.results.formats import save

        save(self, path)
