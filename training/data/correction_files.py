"""Find which file corrects which result, and read it: a result's JSON or an annotation tool's file.

In folders, a result and its correction have the same relative name but for the suffix, and an
export of many videos is matched by their names. Opens no video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vidground.errors import InputError, VidgroundError
from vidground.results.annotation_tools.annotated_video import AnnotatedVideo
from vidground.results.annotation_tools.reading import ANNOTATION_SUFFIXES, read_annotated
from vidground.results.documents import video_of
from vidground.results.formats import FORMATS, Result, load, suffix_of
from vidground.results.result_files import is_result
from vidground.results.safe_text import plain_text
from vidground.results.types import Captions, Event, GroundingResult, Groundings, Moment
from vidground.training.data.answer_events import NOT_FOUND

_RESULT_SUFFIX = ".json"
# The longest first, so that match.via.json is the correction of match.json.
_SUFFIXES = sorted(
    {*ANNOTATION_SUFFIXES, *(f".{suffix_of(name)}" for name in FORMATS)}, key=len, reverse=True
)


@dataclass(frozen=True, slots=True)
class Correction:
    """A predicted result and the files that may correct it.

    Attributes:
        predicted: the file of the result.
        corrected: files of the same name, or exports that name the result's video.
    """

    predicted: Path
    corrected: tuple[Path, ...]


def find_corrections(
    predicted: Path, corrected: Path
) -> tuple[tuple[Correction, ...], tuple[str, ...]]:
    """Return the results with their corrections, and the names that only one side has.

    Args:
        predicted: a result, or a folder of results.
        corrected: a file, or a folder of files. An export of many videos corrects a folder too.

    Raises:
        InputError: a path does not exist, or nothing belongs together.
    """
    for path in (predicted, corrected):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    many = predicted.is_dir()
    if corrected.is_dir() != many and (not many or _is_result(corrected)):
        raise InputError(f"{predicted} and {corrected}: name two files, or two folders")
    if not many:
        return (Correction(predicted, (corrected,)),), ()
    results = {_name(path, predicted): path for path in _files(predicted, (_RESULT_SUFFIX,))}
    results = {name: path for name, path in results.items() if _is_result(path)}
    if corrected.is_dir():
        return _in_folders(results, predicted, corrected)
    found = _by_video([(corrected, read_annotated(corrected))], results.values())
    if not found:
        raise InputError(f"{corrected} names no video of the results in {predicted}")
    missed = [path.relative_to(predicted).as_posix() for path in results.values()]
    done = {item.predicted.relative_to(predicted).as_posix() for item in found}
    return tuple(found), tuple(sorted(set(missed) - done))


def read_correction(path: Path, predicted: Result) -> Result:
    """Return what a file says of the video of `predicted`, as a corrected result.

    Raises:
        VidgroundError: the file cannot be read, or is not about this video and these queries.
    """
    if _is_result(path):
        return load(path)
    videos = read_annotated(path)
    video = video_of(predicted)
    about = [item for item in videos if item.is_about(video.path)]
    if not about:
        named = ", ".join(sorted({str(item.video) for item in videos})) or "no annotated video"
        raise InputError(f"{path}: is about {named}, and the prediction about {video.path}")
    if len(about) > 1:
        raise InputError(f"{path}: holds {len(about)} annotations of {video.path}; keep one")
    return with_annotated_events(predicted, about[0])


def with_annotated_events(predicted: Result, annotated: AnnotatedVideo) -> Result:
    """Return `predicted` with the events of an annotation tool in place of its own.

    A time that the tool has only rounded stays as predicted. In a result of queries, an event
    belongs to the query that is its text; with a single query, one without text does too. A query
    that has lost all its moments is answered by `NOT_FOUND`.

    Raises:
        InputError: an event's text is not one of the queries.
    """
    events = [_unrounded(event, predicted.events, annotated) for event in annotated.events]
    if isinstance(predicted, Captions):
        return replace(predicted, events=tuple(events))
    spans: dict[str, list[Moment]] = {_key(result.query): [] for result in predicted.results}
    for event in events:
        key = _key(event.text)
        if not key and len(spans) == 1:
            (key,) = spans
        if key not in spans:
            raise InputError(
                f"the event {event.start_s:g} - {event.end_s:g} s has the text {event.text!r}, "
                "which is not a query of the prediction; its text must be one of "
                + ", ".join(repr(result.query) for result in predicted.results)
            )
        spans[key].append(Moment(event.start_s, event.end_s))
    return Groundings(
        tuple(_with_moments(result, spans[_key(result.query)]) for result in predicted.results)
    )


def _with_moments(before: GroundingResult, moments: Sequence[Moment]) -> GroundingResult:
    old, new = (
        sorted((moment.start_s, moment.end_s) for moment in side)
        for side in (before.moments, moments)
    )
    if old == new:
        return before
    answer = before.answer if moments else NOT_FOUND
    return replace(before, found=bool(moments), moments=tuple(moments), answer=answer)


def _unrounded(event: Event, predicted: Sequence[Event], annotated: AnnotatedVideo) -> Event:
    """Return the event with predicted times and text where it differs by rounding alone."""

    def nearest(time_s: float, known: Iterable[float]) -> float:
        best = min(known, key=lambda other: abs(other - time_s), default=time_s)
        return best if abs(best - time_s) <= annotated.resolution_s else time_s

    same = (other.text for other in predicted if plain_text(other.text) == event.text)
    start_s = nearest(event.start_s, (other.start_s for other in predicted))
    end_s = nearest(event.end_s, (other.end_s for other in predicted))
    if start_s >= end_s:
        start_s, end_s = event.start_s, event.end_s
    return Event(start_s, end_s, next(same, event.text))


def _key(text: str) -> str:
    return plain_text(text).casefold()


def _in_folders(
    results: Mapping[str, Path], predicted: Path, corrected: Path
) -> tuple[tuple[Correction, ...], tuple[str, ...]]:
    named: dict[str, list[Path]] = {}
    for path in _files(corrected, ANNOTATION_SUFFIXES):
        named.setdefault(_name(path, corrected), []).append(path)
    exports = []
    for path in (path for name in sorted(named.keys() - results.keys()) for path in named[name]):
        with suppress(VidgroundError):  # not an export, and listed as left out
            if not _is_result(path):
                exports.append((path, read_annotated(path)))
    found = {name: list(named[name]) for name in results if name in named}
    by_path = {path: name for name, path in results.items()}
    used: set[Path] = set()
    for item in _by_video(exports, results.values()):
        used.update(item.corrected)
        found.setdefault(by_path[item.predicted], []).extend(item.corrected)
    if not found:
        raise InputError(
            f"{predicted} and {corrected} have no file of the same name; a result match.json is "
            f"corrected by match{', match'.join(ANNOTATION_SUFFIXES)}"
        )
    alone = [results[name].relative_to(predicted).as_posix() for name in results.keys() - found]
    alone += [
        path.relative_to(corrected).as_posix()
        for name, paths in named.items()
        for path in paths
        if name not in results and path not in used
    ]
    matched = tuple(Correction(results[name], tuple(found[name])) for name in sorted(found))
    return matched, tuple(sorted(alone))


def _by_video(
    exports: Sequence[tuple[Path, Sequence[AnnotatedVideo]]], results: Iterable[Path]
) -> list[Correction]:
    """Return the results whose video an export names, each with these exports."""
    found = []
    for result in results:
        try:
            video = video_of(load(result)).path
        except VidgroundError:
            continue  # reported when the result itself is compared
        about = [
            path
            for path, items in exports
            if any(item.video and item.is_about(video) for item in items)
        ]
        if about:
            found.append(Correction(result, tuple(about)))
    return found


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
            yield path


def _is_result(path: Path) -> bool:
    """Return whether a file is a result of vidground, and not an export of an annotation tool."""
    return path.suffix.lower() == _RESULT_SUFFIX and path.is_file() and is_result(path)


def _name(path: Path, folder: Path) -> str:
    """Return the relative path without the suffix of its format."""
    relative = path.relative_to(folder)
    lower = relative.name.lower()
    suffix = next((s for s in _SUFFIXES if lower.endswith(s) and len(lower) > len(s)), "")
    return PurePosixPath(
        relative.parent, relative.name[: len(relative.name) - len(suffix)]
    ).as_posix()
