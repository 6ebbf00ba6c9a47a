"""What vidground returns: moments, events, relevance curves, and their provenance.

All times are floats in seconds on the video's own timeline as a player shows it: 0 is the first
frame, and intervals are half-open [start_s, end_s). Knows neither torch nor any file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, overload

from vidground.errors import InputError
from vidground.video.info import VideoInfo

LATEST_S = 1e9
"""No time in a result is later: 31 years, in seconds."""


def _check_interval(owner: str, start_s: float, end_s: float, score: float | None) -> None:
    if end_s > LATEST_S and math.isfinite(end_s):
        raise InputError(f"{owner} ends at {end_s:g} s; the latest time is {LATEST_S:.0f} s")
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s):
        raise InputError(f"{owner} [{start_s}, {end_s}): needs finite 0 <= start_s < end_s")
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"{owner} score is {score}; it must lie in [0, 1]")


@dataclass(frozen=True, slots=True)
class Moment:
    """An interval of a video that matches a query.

    Attributes:
        start_s: in seconds, 0 or above.
        end_s: in seconds, after `start_s`.
        score: mean relevance of its frames, in [0, 1] (see `Relevance`), or for a model that
            matches frames the mean probability of the matched ones; None if unknown, as of a moment
            that a person added.

    Raises:
        InputError: the interval is empty, negative or not finite, or the score is out of range.
    """

    start_s: float
    end_s: float
    score: float | None = None

    def __post_init__(self) -> None:
        _check_interval("Moment", self.start_s, self.end_s, self.score)


@dataclass(frozen=True, slots=True)
class Event:
    """A captioned interval of a video.

    Attributes:
        start_s: in seconds, 0 or above.
        end_s: in seconds, after `start_s`.
        text: the caption, untrusted text as the model wrote it.
        score: as of a `Moment`, of the caption's evidence; None if unknown.

    Raises:
        InputError: the interval is empty, negative or not finite, or the score is out of range.
    """

    start_s: float
    end_s: float
    text: str
    score: float | None = None

    def __post_init__(self) -> None:
        _check_interval("Event", self.start_s, self.end_s, self.score)


@dataclass(frozen=True, slots=True)
class Relevance:
    """How well each sampled frame matches what was asked for.

    Attributes:
        times_s: (T,) sampled instants in seconds, strictly increasing.
        values: (T,) numbers in [0, 1]: sigmoid of the similarity between the evidence and each
            frame (paper, section 3.2); for a model that matches frames, the probability that a
            time of the answer is this frame.

    Raises:
        InputError: the two have different lengths.
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
    """How a result was made, in enough detail to make it again.

    Attributes:
        model: id on the Hugging Face hub, or a folder.
        revision: commit of the model; None if unknown.
        vidground_version: that made the result.
        dtype: of the model's weights.
        prompt: the text given to the model.
        fps: sampled frames per second of video (see `vidground.settings`).
        windows_s: the [start, end) intervals that the model saw at once, in seconds.
        decoding: settings of generation (see `vidground.settings`).
        time_resolution_s: no time in the result is finer than this, in seconds.
        settings: further numbers that the result depends on: overlap; window_s, max_moments,
            stream and raw_fps if they were set; weight_bits, 8, if the language model's weights
            were quantized to that.
            Empty in results of older versions, as are the next two.
        about_s: the intervals that the prompt refers to, in seconds.
        runtime: device, attention, a digest of the model's files if they are not a commit on the
            hub, and the versions of torch, transformers and PyAV; time_tokens, "matching", of a
            model that matches frames.
        corrected: whether somebody edited times or texts afterwards.
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
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class GroundingResult:
    """The answer to one query on one video.

    Attributes:
        query: as asked.
        found: whether the answer refers to a moment that scores `threshold` or more.
        moments: best first; empty unless found.
        answer: the model's sentence, with evidence written as times in seconds.
        relevance: one number per sampled frame.
        threshold: score from which a moment counts as found, in [0, 1].
        video: the file that was searched.
        provenance: how the answer was made.
        warnings: what the reader should know: a truncated answer, a damaged file, ….
        quality: the same as numbers, and `best_score`, of the moments that the answer refers to;
            None if it refers to none. Empty in results of older versions.
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
        """Distance between sampled frames in seconds; no time is finer than this."""
        return self.provenance.time_resolution_s

    @property
    def not_found_reason(self) -> str | None:
        """Why nothing was found, in words; None if something was."""
        if self.found:
            return None
        if "best_score" not in self.quality:  # of an older version
            return f"the answer refers to no moment that scores {self.threshold:.2f} or more"
        best = self.quality["best_score"]
        if best is None:
            return "the answer refers to no moment"
        return f"the best moment scores {best:.2f}, below the threshold of {self.threshold:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result in the form of its JSON file."""
        return Groundings((self,)).to_dict()

    def to_dataframe(self) -> Any:
        """Return the moments as a pandas table; see `Groundings.to_dataframe`."""
        return Groundings((self,)).to_dataframe()

    def _repr_html_(self) -> str:
        return Groundings((self,))._repr_html_()

    def save(self, path: str | Path) -> None:
        """Write this result to a file; see `Groundings.save`."""
        Groundings((self,)).save(path)


@dataclass(frozen=True, slots=True)
class Groundings:
    """The answers to one or more queries on one video, in the order asked.

    Attributes:
        results: at least one.

    Raises:
        InputError: there are none.
    """

    results: tuple[GroundingResult, ...]

    def __post_init__(self) -> None:
        if not self.results:
            raise InputError("Groundings: needs at least one result")

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[GroundingResult]:
        return iter(self.results)

    def __getitem__(self, index: int) -> GroundingResult:
        return self.results[index]

    def to_dict(self) -> dict[str, Any]:
        """Return the results in the form of their JSON file."""
        from vidground.results.documents import to_dict

        return to_dict(self)

    def to_dataframe(self) -> Any:
        """Return the moments as a pandas table: query, start_s, end_s, score.

        Raises:
            InputError: pandas is not installed.
        """
        rows = [
            (result.query, moment.start_s, moment.end_s, moment.score)
            for result in self.results
            for moment in result.moments
        ]
        return _dataframe(rows, ("query", "start_s", "end_s", "score"))

    def _repr_html_(self) -> str:
        from vidground.results.notebook import groundings_html

        return groundings_html(self)

    @property
    def events(self) -> tuple[Event, ...]:
        """All moments as events sorted by time; the query is the text."""
        events = [
            Event(moment.start_s, moment.end_s, result.query, moment.score)
            for result in self.results
            for moment in result.moments
        ]
        return tuple(sorted(events, key=lambda e: (e.start_s, e.end_s)))

    def save(self, path: str | Path) -> None:
        """Write the result to a file in the format that its suffix names.

        Args:
            path: see `vidground.results.formats.save`.

        Raises:
            FormatError: the suffix is unknown, or the file cannot be written.
        """
        from vidground.results.formats import save

        save(self, path)


@dataclass(frozen=True, slots=True)
class Captions:
    """The events of one video: iterable, with `len`, index and slice. Notebooks show a timeline.

    Attributes:
        events: sorted by time.
        video: the file that was captioned.
        provenance: how the captions were made.
        answers: the model's raw answer per window, with evidence written as times in seconds.
        warnings: what the reader should know: a truncated answer, a damaged file, ….
        quality: the same as numbers (see `vidground.results.quality`); empty in results of older
            versions.
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

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self.events[index]

    def to_dict(self) -> dict[str, Any]:
        """Return the result in the form of its JSON file."""
        from vidground.results.documents import to_dict

        return to_dict(self)

    def to_dataframe(self) -> Any:
        """Return the events as a pandas table: start_s, end_s, text, score.

        Raises:
            InputError: pandas is not installed.
        """
        rows = [(event.start_s, event.end_s, event.text, event.score) for event in self.events]
        return _dataframe(rows, ("start_s", "end_s", "text", "score"))

    def _repr_html_(self) -> str:
        from vidground.results.notebook import captions_html

        return captions_html(self)

    @property
    def time_resolution_s(self) -> float:
        """Distance between sampled frames in seconds; no time is finer than this."""
        return self.provenance.time_resolution_s

    def save(self, path: str | Path) -> None:
        """Write the result to a file in the format that its suffix names.

        Args:
            path: see `vidground.results.formats.save`.

        Raises:
            FormatError: the suffix is unknown, or the file cannot be written.
        """
        from vidground.results.formats import save

        save(self, path)


def _dataframe(rows: list[tuple[Any, ...]], columns: tuple[str, ...]) -> Any:
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise InputError("to_dataframe needs the package pandas: pip install pandas") from error
    return pandas.DataFrame(rows, columns=list(columns))
