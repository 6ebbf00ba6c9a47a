"""Reproduce a stored result from its provenance, and compare the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from vidground.archive.stored_results import load
from vidground.captioner import DenseCaptioner
from vidground.errors import VideoError
from vidground.grounder import Grounder
from vidground.language.prompts import grounding_question
from vidground.progress import OnProgress
from vidground.results.documents import Result, provenance_in, video_of
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Groundings,
    Provenance,
    Relevance,
)
from vidground.review.replay_settings import (
    decoding_of,
    device_of,
    dtype_of,
    rounding_of,
    sampling_of,
    weights_of,
)
from vidground.settings import CacheSettings, GroundingSettings
from vidground.storage.files import file_sha256, printable
from vidground.video.info import VideoInfo

_SCORE_TOLERANCE = 0.01
"""Scores of the same answer differ by less between devices and library versions."""
_ROUNDING = {"float32": 1e-4}
"""By dtype: relevance differs by less between batch sizes, processors and runs. Sums are rounded in
another order, which may also move a cached feature to the next of its 16- or 8-bit values. For
16-bit dtypes the limit is `_SCORE_TOLERANCE`."""
_SHARPER = 10
"""Probabilities of a model that matches frames move this much further: they are a softmax of
similarities that, unlike relevance, are not divided by the root of their size."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A reproduced result.

    Attributes:
        result: the new one.
        differences: a line per event or moment that differs; empty if there is none.
        notes: what else differs: the video, versions, answers, and relevance by more than rounding
            explains (1e-4 in float32, 0.01 in 16 bits; ten times that if frames are matched).
    """

    result: Result
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all events or moments have the same times and texts, and scores within 0.01, or
        0.1 if frames are matched."""
        return not self.differences


def replay(
    path: str | Path,
    *,
    video: str | PathLike[str] | None = None,
    device: str | None = None,
    on_progress: OnProgress | None = None,
    **load_options: Any,
) -> Replay:
    """Reproduce the result in a JSON file from its video, without a cache.

    Args:
        path: of the result, or of its video or an output beside it.
        video: the video's current path; None for the path in the result.
        device: to compute on; None for the kind of device that the result was made on, if there is
            one.
        on_progress: called with the progress on the video.
        load_options: cache_dir, token, local_files_only; vision and provider (see `Engine`) if
            frames were not encoded by the model itself.

    Raises:
        FormatError: the file holds no result.
        VideoError: the video does not exist or cannot be read.
        CheckpointError: the model cannot be found.
        InputError: the result was made with settings that this version does not know.
    """
    stored = load(path)
    info, before = video_of(stored), provenance_in(stored)
    source = Path(video if video is not None else info.path)
    if not source.exists():
        remedy = "give its current path with --video" if video is None else "check the path"
        raise VideoError(f"{printable(source)}: no such video; {remedy}")
    options = {
        "device": device or device_of(before),
        "dtype": dtype_of(before),
        "weights": weights_of(before),
        "sampling": sampling_of(before),
        "decoding": decoding_of(before),
        "cache": rounding_of(before),
        **({} if before.revision is None else {"revision": before.revision}),
        **load_options,
    }
    if isinstance(stored, Captions):
        captioner = DenseCaptioner(before.model, **options)
        new: Result = captioner.caption(source, question=before.prompt, on_progress=on_progress)
    else:
        new = _ground_again(stored, Grounder(before.model, **options), source, on_progress)
    within = _SCORE_TOLERANCE * _sharpness(provenance_in(new))
    differences = [line for rows in _pairs(stored, new) for line in _compare(*rows, within)]
    notes = [*_video_notes(info, source), *_runtime_notes(before, provenance_in(new))]
    return Replay(new, tuple(differences), (*notes, *_answer_notes(stored, new)))


def _ground_again(
    stored: Groundings, grounder: Grounder, video: Path, on_progress: OnProgress | None
) -> Groundings:
    """Repeat the queries and questions; queries with equal settings as one batch."""
    cache = rounding_of(provenance_in(stored))
    results: dict[int, GroundingResult] = {}
    queries: dict[GroundingSettings, list[int]] = {}
    for index, old in enumerate(stored.results):
        most = int(old.provenance.settings.get("max_moments", GroundingSettings().max_moments))
        settings = GroundingSettings(old.threshold, most)
        if old.provenance.prompt == grounding_question(old.query):
            queries.setdefault(settings, []).append(index)
        else:
            about = old.provenance.about_s
            configured = _with_settings(grounder, settings, cache)
            results[index] = configured.ask(video, old.query, about=about, on_progress=on_progress)
    for settings, indices in queries.items():
        texts = [stored.results[index].query for index in indices]
        configured = _with_settings(grounder, settings, cache)
        answers = configured.query(video, texts, on_progress=on_progress)
        results |= dict(zip(indices, answers, strict=True))
    return Groundings(tuple(results[index] for index in range(len(stored))))


def _with_settings(
    grounder: Grounder, settings: GroundingSettings, cache: CacheSettings | None
) -> Grounder:
    engine = grounder.engine
    return Grounder(
        engine.model,
        sampling=engine.sampling,
        decoding=engine.decoding,
        grounding=settings,
        vision=engine.vision,
        cache=cache,
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """An event or moment in a comparison."""

    start_s: float
    end_s: float
    text: str
    score: float | None

    def __str__(self) -> str:
        score = "" if self.score is None else f"  ({self.score:.3f})"
        return f"{self.start_s:.3f} - {self.end_s:.3f} s  {self.text}{score}"

    @property
    def key(self) -> tuple[int, int, str]:
        return round(self.start_s * 1000), round(self.end_s * 1000), self.text


def _pairs(stored: Result, new: Result) -> list[tuple[list[_Row], list[_Row]]]:
    """Return old and new rows of the captions, or of every query."""
    if isinstance(stored, Captions):
        return [(_rows(stored.events), _rows(new.events))]
    assert isinstance(new, Groundings)
    return [
        (_moments(old), _moments(repeated))
        for old, repeated in zip(stored.results, new.results, strict=True)
    ]


def _rows(events: Sequence[Event]) -> list[_Row]:
    return [_Row(event.start_s, event.end_s, event.text, event.score) for event in events]


def _moments(result: GroundingResult) -> list[_Row]:
    return [_Row(m.start_s, m.end_s, result.query, m.score) for m in result.moments]


def _compare(old: Sequence[_Row], new: Sequence[_Row], within: float) -> list[str]:
    """Return a line per difference: "-" missing, "+" new, "~" the same with another score."""
    matcher = SequenceMatcher(None, [r.key for r in old], [r.key for r in new], autojunk=False)
    lines = []
    for tag, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        before, after = old[old_start:old_stop], new[new_start:new_stop]
        if tag == "equal":
            pairs = zip(before, after, strict=True)
            lines += [f"~ {b}, was {a.score}" for a, b in pairs if _scores_differ(a, b, within)]
        else:
            lines += [f"- {row}" for row in before] + [f"+ {row}" for row in after]
    return lines


def _sharpness(provenance: Provenance) -> int:
    return _SHARPER if provenance.runtime.get("time_tokens") == "matching" else 1


def _scores_differ(old: _Row, new: _Row, within: float) -> bool:
    if old.score is None or new.score is None:
        return old.score is not new.score
    return abs(old.score - new.score) > within


def _video_notes(info: VideoInfo, video: Path) -> list[str]:
    now = file_sha256(video)
    if info.sha256 is None:
        return ["the result does not record the video's SHA-256; it may be another video"]
    if now == info.sha256:
        return []
    return [f"{printable(fspath(video))} is another video: SHA-256 {now}, was {info.sha256}"]


def _runtime_notes(old: Provenance, new: Provenance) -> list[str]:
    before = {"vidground": old.vidground_version, **old.runtime}
    after = {"vidground": new.vidground_version, **new.runtime}
    notes = [
        f"{name} was {before[name]}, is {after.get(name, 'unknown')}"
        for name in before
        if before[name] != after.get(name)
    ]
    if not old.runtime:
        notes.append("the result does not record its device and library versions")
    if len(old.windows_s) != len(new.windows_s):
        notes.append(f"number of windows was {len(old.windows_s)}, is {len(new.windows_s)}")
    return notes


def _answer_notes(stored: Result, new: Result) -> list[str]:
    notes = []
    if _answers(stored) != _answers(new):
        notes.append("the model's answers differ")
    if isinstance(stored, Captions) or isinstance(new, Captions):
        return notes
    pairs = zip(stored.results, new.results, strict=True)
    curves = [(old.relevance, repeated.relevance) for old, repeated in pairs]
    if any(not _same_times(*pair) for pair in curves):
        return [*notes, "the relevance curve has other times"]
    gap = max((_largest_gap(a.values, b.values) for a, b in curves), default=0.0)
    provenance = provenance_in(new)
    rounding = _ROUNDING.get(provenance.dtype, _SCORE_TOLERANCE) * _sharpness(provenance)
    if gap > rounding:
        notes.append(
            f"relevance differs by up to {gap:.2g}; rounding explains at most {rounding:g}"
        )
    return notes


def _answers(result: Result) -> list[str]:
    if isinstance(result, Captions):
        return list(result.answers)
    return [answer.answer for answer in result.results]


def _same_times(old: Relevance, new: Relevance) -> bool:
    """Return whether both were sampled at the same times, to the millisecond."""
    return len(old) == len(new) and _largest_gap(old.times_s, new.times_s) < 1e-3


def _largest_gap(old: Sequence[float], new: Sequence[float]) -> float:
    return max((abs(a - b) for a, b in zip(old, new, strict=True)), default=0.0)
