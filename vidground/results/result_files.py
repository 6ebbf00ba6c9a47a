"""Result files: names, folders and patterns to the JSON files that hold results.

Reads no more of a file than is needed to pass over other JSON in a folder. Knows no videos.
"""

import glob
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from vidground.errors import FormatError
from vidground.storage.files import printable

SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file to read a result from. relative: its place in a tree that mirrors the inputs'."""

    path: Path
    relative: Path


@dataclass(frozen=True, slots=True)
class FoundResults:
    """What `find_results` found.

    files: in the order of the inputs, each once. missing: what was asked for and is not there,
    with the reasons. foreign: JSON in a folder that is no result (a run's summary, a manifest).
    """

    files: tuple[ResultFile, ...]
    missing: tuple[tuple[str, FormatError], ...]
    foreign: tuple[Path, ...]


def find_results(
    inputs: Iterable[str | os.PathLike[str]], *, recursive: bool = False
) -> FoundResults:
    """Return the result files that `inputs` name.

    An input is a file, whatever its suffix; a folder, for the `*.json` in it by name; or a pattern
    with `*`, `?`, `[…]`, or `**` for any folders, for what it matches. Folders and patterns pass
    over names that start with a dot, and folders over valid JSON that is no result; a broken file
    is given, so that whoever reads it can say so.

    recursive: search the folders inside of folders too; links to folders are not followed.
    """
    files: dict[str, ResultFile] = {}
    foreign: dict[Path, None] = {}
    missing: dict[str, FormatError] = {}

    def take(path: Path, base: Path) -> None:
        place = path.relative_to(base)
        files.setdefault(os.path.realpath(path), ResultFile(path, place))

    def take_folder(folder: Path) -> bool:
        before = len(foreign)
        inside = list(_json_files(folder, recursive))
        for path in inside:
            if _is_foreign(path):
                foreign[path] = None
            else:
                take(path, folder)
        return len(inside) > len(foreign) - before

    for item in inputs:
        name = os.fspath(item)
        if os.path.lexists(name) and not Path(name).is_dir():
            take(Path(name), Path(name).parent)
        elif os.path.lexists(name):
            if not take_folder(Path(name)):
                deeper = "" if recursive else " (folders inside of it are not searched)"
                missing[name] = FormatError(f"{printable(name)}: no result in this folder{deeper}")
        elif matches := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - any base
            for match in map(Path, matches):
                if match.is_dir():
                    take_folder(match)
                else:
                    take(match, _fixed_part(name))
        else:
            missing[name] = FormatError(f"{printable(name)}: no such file; check the path")
    return FoundResults(tuple(files.values()), tuple(missing.items()), tuple(foreign))


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts[:-1]))


def _json_files(folder: Path, recursive: bool) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            path = Path(top, name)
            # A pipe or a device would be waited for.
            if path.suffix.lower() == SUFFIX and not name.startswith(".") and path.is_file():
                yield path


def _is_foreign(path: Path) -> bool:
    """Whether the file holds JSON, and nothing that could be a result."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return not (isinstance(document, dict) and {"schema_version", "kind"} <= document.keys())
