"""Find stored results by their JSON files, videos, subtitles or folders.

A run records its results beside its outputs, so that a result can be read even if it was written as
subtitles only. Such a result is named by the path that its JSON file would have.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidground.archive.manifest import MANIFEST, Manifest
from vidground.errors import FormatError
from vidground.results import formats
from vidground.results.documents import Result, from_json
from vidground.results.formats import format_of, suffix_of
from vidground.results.result_files import SUFFIX, FoundResults, ResultFile, find_results
from vidground.storage.files import VIDEO_SUFFIXES, printable

INFIXES = ("", ".query")
"""Infixes between a video's name and the suffix of captions and of queries."""


def load(path: str | os.PathLike[str]) -> Result:
    """Read a stored result.

    Args:
        path: of its JSON file, or the path that this would have if it had been written; of its
            video or of an output, if the result lies beside them.

    Raises:
        FormatError: there is no such result, there are several, or it cannot be read.
    """
    path = require_stored(path)
    document = None if os.path.lexists(path) else _recorded(path)
    if document is None:
        return formats.load(path)
    try:
        return from_json(document)
    except FormatError as error:
        raise FormatError(f"{printable(path)}, as recorded: {error}") from error


def find_stored(
    inputs: Iterable[str | os.PathLike[str]], *, recursive: bool = False, outputs: bool = True
) -> FoundResults:
    """Return the results that inputs name, each by a path for `load`.

    Args:
        inputs: as of `find_results`; and videos and other outputs of a run (subtitles, tables), for
            the results beside them. Folders include recorded results.
        recursive: search subfolders, too.
        outputs: replace other outputs by the results that they were written from; False returns
            them as they are.
    """
    names = [os.fspath(name) for name in inputs]
    found = find_results(names, recursive=recursive)
    files: dict[str, ResultFile] = {}
    missing = dict(found.missing)
    for file in found.files:
        suffix = file.path.suffix.lower()
        as_named = suffix == SUFFIX or not (outputs or suffix in VIDEO_SUFFIXES)
        try:
            results = [file.path] if as_named else results_beside(file.path)
        except FormatError as error:  # a damaged record ends no search
            missing[str(file.path)] = error
            continue
        for path in results:
            place = os.path.realpath(path)
            files.setdefault(place, ResultFile(path, file.relative.with_name(path.name)))
        if not results:
            missing[str(file.path)] = _not_stored(file.path)
    for name in filter(os.path.isdir, names):
        for record in _records_in(Path(name), recursive=recursive):
            try:
                recorded = record.names()
            except FormatError as error:
                missing[str(record.path)] = error
                continue
            for path in (record.folder / f"{stem}{SUFFIX}" for stem in recorded):
                if not recursive and path.parent != record.folder:
                    continue
                files.setdefault(os.path.realpath(path), ResultFile(path, path.relative_to(name)))
                missing.pop(name, None)
    return FoundResults(tuple(files.values()), tuple(missing.items()), found.foreign)


def require_stored(name: str | os.PathLike[str]) -> Path:
    """Return the path of the JSON file of the only result that a file names.

    Raises:
        FormatError: there is no such file, it has no stored result, or it has several.
    """
    path = Path(name)
    if path.suffix.lower() == SUFFIX or not path.exists():
        return path
    found = find_stored([path])
    if len(found.files) == 1:
        return found.files[0].path
    if found.files:
        several = ", ".join(printable(file.path) for file in found.files)
        raise FormatError(f"{printable(path)} has several results: {several}; name one of them")
    raise found.missing[0][1] if found.missing else _not_stored(path)


def results_beside(path: Path) -> list[Path]:
    """Return the results on a video, or the one that an output was written from.

    Args:
        path: of a video, or of an output in any format.
    """
    name, form = path.name, format_of(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        stems = [f"{stem}{infix}" for stem in (path.stem, name) for infix in INFIXES]
    elif form is not None:
        stems = [name[: -len(suffix_of(form))]]
    else:
        return []
    places = [path.with_name(stem + SUFFIX) for stem in stems]
    return [place for place in places if place.is_file() or _recorded(place) is not None]


def _recorded(path: Path) -> str | None:
    """Return the recorded result whose JSON file would be `path`; None if there is none."""
    if path.suffix.lower() != SUFFIX:
        return None
    for folder in path.absolute().parents:
        if (folder / MANIFEST).is_file():
            name = path.absolute().relative_to(folder).with_suffix("")
            document = Manifest(folder).document(os.fspath(name))
            if document is not None:
                return document
    return None


def _records_in(folder: Path, *, recursive: bool) -> Iterator[Manifest]:
    """Yield the records in a folder, and with `recursive` in the folders inside of it."""
    for top, folders, files in os.walk(folder):
        visible = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(visible) if recursive else []
        if MANIFEST in files:
            yield Manifest(top)


def _not_stored(path: Path) -> FormatError:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return FormatError(
            f"{printable(path)}: no result on this video is stored beside it; run `vidground "
            "caption` on it, or name the folder or the JSON file of its results"
        )
    return FormatError(
        f"{printable(path)}: not a result, and none is stored beside it; name a JSON file that "
        "vidground wrote, a video, or a folder"
    )
