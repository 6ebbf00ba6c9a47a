"""Make a stored result again from all that it says of its making, and compare.

Knows no terminal; loads the model that the result names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from vidground.captioner import DenseCaptioner
from vidground.errors import InputError, VideoError
from vidground.grounder import Grounder
from vidground.language.prompts import grounding_question
from vidground.progress import OnProgress
from vidground.results.documents import Result, provenance_in, video_of
from vidground.results.formats import load
from vidground.results.types import (
    Captions,
    Event,
    GroundingResult,
    Groundings,
    Provenance,
    Relevance,
)
from vidground.settings import (
    FULL_WEIGHTS,
    INT8_WEIGHTS,
    CacheSettings,
    DecodingSettings,
    GroundingSettings,
    SamplingSettings,
)
from vidground.storage.files import file_sha256, printable
from vidground.video.info import VideoInfo

_SCORE_TOLERANCE = 0.01
"""Scores of one answer differ by less between devices and versions of libraries."""
_ROUNDING = {"float32": 1e-4}
"""Relevance differs by less between batches, processors and runs, by the type computed in: sums
are rounded in another order, which may also move a feature to the next of its 16 or 8 bit values.
In 16 bits it is `_SCORE_TOLERANCE`."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A result made again.

    differences: lines on events or moments that are not as before; empty if all are. notes: what
    else is not as it was: the video, versions, answers, and relevance that differs by more than
    rounding explains (1e-4 in float32, 0.01 in 16 bits). result: the new one.
    """

    result: Result
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all events or moments are as before: times, texts, and scores within 0.01."""
        return not self.differences


def replay(
    path: str | Path,
    *,
    video: str | PathLike[str] | None = None,
    device: str | None = None,
    on_progress: OnProgress | None = None,
    **load_options: Any,
) -> Replay:
    """Make the result in a JSON file again, from the video; a cache is not asked.

    Args:
        video: where its video is now; None for where it was.
        device: where to compute; None for the kind of device it was made on, if there is one.
        load_options: cache_dir, token, local_files_only; vision and provider (see `Engine`) if
            frames were not encoded by the model itself.

    Raises:
        FormatError: the file holds no result. VideoError: the video is not there.
        CheckpointError: the model is not there any more.
        InputError: the result was made with settings that this version does not know.
    """
    stored = load(path)
    info, before = video_of(stored), provenance_in(stored)
    place = Path(video if video is not None else info.path)
    if not place.exists():
        remedy = "say where it is now (--video)" if video is None else "check the path"
        raise VideoError(f"{printable(place)}: the video is not there; {remedy}")
    options = {
        "device": device or _device(before),
        "dtype": before.dtype,
        "weights": INT8_WEIGHTS if before.settings.get("weight_bits") == 8 else FULL_WEIGHTS,
        "sampling": _sampling(before),
        "decoding": _decoding(before),
        "cache": _rounding(before),
        **({} if before.revision is None else {"revision": before.revision}),
        **load_options,
    }
    if isinstance(stored, Captions):
        captioner = DenseCaptioner(before.model, **options)
        made: Result = captioner.caption(place, question=before.prompt, on_progress=on_progress)
    else:
        made = _ground_again(stored, Grounder(before.model, **options), place, on_progress)
    differences = [line for old, new in _pairs(stored, made) for line in _compare(old, new)]
    notes = [*_video_notes(info, place), *_runtime_notes(before, provenance_in(made))]
    return Replay(made, tuple(differences), (*notes, *_answer_notes(stored, made)))


def _ground_again(
    stored: Groundings, grounder: Grounder, video: Path, on_progress: OnProgress | None
) -> Groundings:
    """Ask again what was asked; queries with equal settings at once, as they were."""
    cache = _rounding(provenance_in(stored))
    made: dict[int, GroundingResult] = {}
    queries: dict[GroundingSettings, list[int]] = {}
    for index, old in enumerate(stored.results):
        most = int(old.provenance.settings.get("max_moments", GroundingSettings().max_moments))
        settings = GroundingSettings(old.threshold, most)
        if old.provenance.prompt == grounding_question(old.query):
            queries.setdefault(settings, []).append(index)
        else:
            about = old.provenance.about_s
            asked = _like(grounder, settings, cache)
            made[index] = asked.ask(video, old.query, about=about, on_progress=on_progress)
    for settings, indices in queries.items():
        texts = [stored.results[index].query for index in indices]
        results = _like(grounder, settings, cache).query(video, texts, on_progress=on_progress)
        made |= dict(zip(indices, results, strict=True))
    return Groundings(tuple(made[index] for index in range(len(stored))))


def _like(grounder: Grounder, settings: GroundingSettings, cache: CacheSettings | None) -> Grounder:
    engine = grounder.engine
    return Grounder(
        engine.model,
        sampling=engine.sampling,
        decoding=engine.decoding,
        grounding=settings,
        vision=engine.vision,
        cache=cache,
    )


def _device(before: Provenance) -> str | None:
    """The kind of device it was made on; None, which leaves the choice, if there is none here."""
    kind = before.runtime.get("device")
    return None if kind == "cuda" and not torch.cuda.is_available() else kind


def _sampling(before: Provenance) -> SamplingSettings:
    window_s = before.settings.get("window_s")
    overlap = before.settings.get("overlap", SamplingSettings().overlap)
    return SamplingSettings(before.fps, None if window_s is None else float(window_s), overlap)


def _rounding(before: Provenance) -> CacheSettings | None:
    """The rounding of features that it was made with; nothing is read from a cache or kept."""
    bits = before.runtime.get("features", "").removesuffix(" bit")
    return CacheSettings(max_gib=0, bits=int(bits)) if bits.isdigit() else None


def _decoding(before: Provenance) -> DecodingSettings:
    known = {field.name for field in fields(DecodingSettings)}
    unknown = sorted(before.decoding.keys() - known)
    if unknown:
        raise InputError(
            f"the result was decoded with {', '.join(unknown)}, which this vidground does not "
            f"know; use vidground {before.vidground_version}"
        )
    # Older versions let an answer repeat itself up to its cap.
    values: Mapping[str, Any] = {"loop_tokens": 0, **before.decoding}
    return DecodingSettings(**values)


@dataclass(frozen=True, slots=True)
class _Row:
    """An event or moment: what identifies it, and its score."""

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


def _pairs(stored: Result, made: Result) -> list[tuple[list[_Row], list[_Row]]]:
    """Old and new rows of the captions, or of every query."""
    if isinstance(stored, Captions):
        return [(_rows(stored.events), _rows(made.events))]
    assert isinstance(made, Groundings)
    return [
        (_moments(old), _moments(new))
        for old, new in zip(stored.results, made.results, strict=True)
    ]


def _rows(events: Sequence[Event]) -> list[_Row]:
    return [_Row(event.start_s, event.end_s, event.text, event.score) for event in events]


def _moments(result: GroundingResult) -> list[_Row]:
    return [_Row(m.start_s, m.end_s, result.query, m.score) for m in result.moments]


def _compare(old: Sequence[_Row], new: Sequence[_Row]) -> list[str]:
    """What differs, as lines: "-" gone, "+" new, "~" the same with another score."""
    matcher = SequenceMatcher(None, [r.key for r in old], [r.key for r in new], autojunk=False)
    lines = []
    for tag, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        before, after = old[old_start:old_stop], new[new_start:new_stop]
        if tag == "equal":
            pairs = zip(before, after, strict=True)
            lines += [f"~ {b}, was {a.score}" for a, b in pairs if _score_moved(a, b)]
        else:
            lines += [f"- {row}" for row in before] + [f"+ {row}" for row in after]
    return lines


def _score_moved(old: _Row, new: _Row) -> bool:
    if old.score is None or new.score is None:
        return old.score is not new.score
    return abs(old.score - new.score) > _SCORE_TOLERANCE


def _video_notes(info: VideoInfo, place: Path) -> list[str]:
    now = file_sha256(place)
    if info.sha256 is None:
        return ["the result does not say which video it is about; it may be another one"]
    if now == info.sha256:
        return []
    return [f"{printable(fspath(place))} is another video: SHA-256 {now}, was {info.sha256}"]


def _runtime_notes(old: Provenance, new: Provenance) -> list[str]:
    before = {"vidground": old.vidground_version, **old.runtime}
    after = {"vidground": new.vidground_version, **new.runtime}
    notes = [
        f"{name} was {before[name]}, is {after.get(name, 'unknown')}"
        for name in before
        if before[name] != after.get(name)
    ]
    if not old.runtime:
        notes.append("the result does not say with which device and libraries it was made")
    if len(old.windows_s) != len(new.windows_s):
        notes.append(
            f"the video was seen in {len(old.windows_s)} windows, now {len(new.windows_s)}"
        )
    return notes


def _answer_notes(stored: Result, made: Result) -> list[str]:
    notes = []
    if _answers(stored) != _answers(made):
        notes.append("the model's answers are not the same")
    if isinstance(stored, Captions) or isinstance(made, Captions):
        return notes
    pairs = zip(stored.results, made.results, strict=True)
    curves = [(old.relevance, new.relevance) for old, new in pairs]
    if any(not _same_times(old, new) for old, new in curves):
        notes.append("the relevance curve has other times")
        return notes
    moved = max((_largest_gap(old.values, new.values) for old, new in curves), default=0.0)
    rounding = _ROUNDING.get(provenance_in(made).dtype, _SCORE_TOLERANCE)
    if moved > rounding:
        notes.append(
            f"relevance differs by up to {moved:.2g}; rounding explains no more than {rounding:g}"
        )
    return notes


def _answers(result: Result) -> list[str]:
    if isinstance(result, Captions):
        return list(result.answers)
    return [answer.answer for answer in result.results]


def _same_times(old: Relevance, new: Relevance) -> bool:
    """Whether both were sampled at the same times, to the millisecond."""
    return len(old) == len(new) and _largest_gap(old.times_s, new.times_s) < 1e-3


def _largest_gap(old: Sequence[float], new: Sequence[float]) -> float:
    return max((abs(a - b) for a, b in zip(old, new, strict=True)), default=0.0)
