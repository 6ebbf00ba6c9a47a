"""Find which file corrects which result: a result's JSON or an annotation tool's file.

In folders, a result and its correction have the same relative name but for the suffix, and an
export of many videos is matched by their names. Opens no video.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidground.errors import InputError, VidgroundError
from vidground.results.annotation_tools.annotated_video import AnnotatedVideo
from vidground.results.annotation_tools.correcting import corrected_name, is_result_file
from vidground.results.annotation_tools.reading import ANNOTATION_SUFFIXES, read_annotated
from vidground.results.documents import video_of
from vidground.results.formats import load

_RESULT_SUFFIX = ".json"


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
    if corrected.is_dir() != many and (not many or is_result_file(corrected)):
        raise InputError(f"{predicted} and {corrected}: name two files, or two folders")
    if not many:
        return (Correction(predicted, (corrected,)),), ()
    # What was written beside a result for an annotation tool has its name: match.via.json.
    files = filter(is_result_file, _files(predicted, (_RESULT_SUFFIX,)))
    results = {_name(path, predicted): path for path in files}
    if corrected.is_dir():
        return _in_folders(results, predicted, corrected)
    found = _by_video([(corrected, read_annotated(corrected))], results.values())
    if not found:
        raise InputError(f"{corrected} names no video of the results in {predicted}")
    missed = [path.relative_to(predicted).as_posix() for path in results.values()]
    done = {item.predicted.relative_to(predicted).as_posix() for item in found}
    return tuple(found), tuple(sorted(set(missed) - done))


def _in_folders(
    results: Mapping[str, Path], predicted: Path, corrected: Path
) -> tuple[tuple[Correction, ...], tuple[str, ...]]:
    named: dict[str, list[Path]] = {}
    for path in _files(corrected, ANNOTATION_SUFFIXES):
        named.setdefault(_name(path, corrected), []).append(path)
    exports = []
    for path in (path for name in sorted(named.keys() - results.keys()) for path in named[name]):
        with suppress(VidgroundError):  # not an export, and listed as left out
            if not is_result_file(path):
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


def _name(path: Path, folder: Path) -> str:
    """Return the relative path without the suffix of its format."""
    relative = path.relative_to(folder)
    return PurePosixPath(relative.parent, corrected_name(relative.name)).as_posix()
