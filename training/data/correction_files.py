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
from vidground.results.corrections import correct
from vidground.results.cues import to_cues
from vidground.results.documents import video_of
from vidground.results.formats import FORMATS, Result, load, suffix_of
from vidground.results.result_files import is_result
from vidground.results.types import Event, Groundings

_RESULT_SUFFIX = ".json"
# The longest first, so that match.via.json is the correction of match.json.
_SUFFIXES = sorted({*ANNOTATION_SUFFIXES, *map(suffix_of, FORMATS)}, key=len, reverse=True)


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
    belongs to the query that is its text; with a single query, one without text does too.

    Raises:
        FormatError: an event's text is not one of the queries.
    """
    events = [_unrounded(event, predicted.events, annotated) for event in annotated.events]
    if isinstance(predicted, Groundings) and len(predicted) == 1:
        (only,) = predicted
        events = [event if event.text else replace(event, text=only.query) for event in events]
    return correct(predicted, to_cues(events))


def _unrounded(event: Event, predicted: Sequence[Event], annotated: AnnotatedVideo) -> Event:
    """Return the event with the predicted times where it differs by rounding alone."""

    def nearest(time_s: float, known: Iterable[float]) -> float:
        best = min(known, key=lambda other: abs(other - time_s), default=time_s)
        return best if abs(best - time_s) <= annotated.resolution_s else time_s

    start_s = nearest(event.start_s, (other.start_s for other in predicted))
    end_s = nearest(event.end_s, (other.end_s for other in predicted))
    return replace(event, start_s=start_s, end_s=end_s) if start_s < end_s else event


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
