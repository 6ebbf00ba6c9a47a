"""Find the files that hold results: names, folders and patterns to paths.

Reads no more of a file than is needed to ignore other JSON in a folder. Knows no videos.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from vidground.errors import FormatError
from vidground.storage.files import printable
from vidground.storage.reading import read_json

SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file to read a result from.

    Attributes:
        path: of the file.
        relative: its path in a tree that mirrors the inputs'.
    """

    path: Path
    relative: Path


@dataclass(frozen=True, slots=True)
class FoundResults:
    """What `find_results` found.

    Attributes:
        files: in the order of the inputs, each once.
        missing: inputs that do not exist or hold no result, with the reasons.
        foreign: JSON files in folders that are not results (a run's summary, a manifest).
    """

    files: tuple[ResultFile, ...]
    missing: tuple[tuple[str, FormatError], ...]
    foreign: tuple[Path, ...]


def find_results(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    suffixes: Sequence[str] = (SUFFIX,),
    corrections: bool = False,
) -> FoundResults:
    """Return the result files that `inputs` name.

    Folders and patterns ignore names that start with a dot, and folders ignore valid JSON that is
    not a result. A broken file is returned, so that reading it reports what is wrong.

    Args:
        inputs: each is a file, whatever its suffix; a folder, for the files in it, by name; or a
            pattern with `*`, `?`, `[…]`, or `**` for any folders, for what it matches.
        recursive: search the folders inside of folders too; links to folders are not followed.
        suffixes: lower-case suffixes of the files to find in folders.
        corrections: find what corrects results: in folders, ignore results instead of other JSON.
    """
    search = _Search(recursive, tuple(suffixes), corrections=corrections)
    for item in inputs:
        search.add(os.fspath(item))
    return FoundResults(
        tuple(search.files.values()), tuple(search.missing.items()), tuple(search.foreign)
    )


class _Search:
    """The files found so far, by their real path so that each counts once."""

    def __init__(self, recursive: bool, suffixes: tuple[str, ...], *, corrections: bool) -> None:
        self._recursive = recursive
        self._suffixes = suffixes
        self._corrections = corrections
        self.files: dict[str, ResultFile] = {}
        self.foreign: dict[Path, None] = {}
        self.missing: dict[str, FormatError] = {}

    def add(self, name: str) -> None:
        """Find what one input names."""
        if os.path.lexists(name) and not Path(name).is_dir():
            self._take(Path(name), Path(name).parent)
        elif os.path.lexists(name):
            if not self._take_folder(Path(name)):
                deeper = "" if self._recursive else "; use --recursive to search its subfolders"
                self.missing[name] = FormatError(
                    f"{printable(name)}: no result in this folder{deeper}"
                )
        elif matches := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - any base
            for match in map(Path, matches):
                if match.is_dir():
                    self._take_folder(match)
                else:
                    self._take(match, _fixed_part(name))
        else:
            self.missing[name] = FormatError(f"{printable(name)}: no such file; check the path")

    def _take(self, path: Path, base: Path) -> None:
        self.files.setdefault(os.path.realpath(path), ResultFile(path, path.relative_to(base)))

    def _take_folder(self, folder: Path) -> bool:
        """Take the results in a folder; return whether there are any."""
        taken = False
        for path in self._files_in(folder):
            if path.suffix.lower() == SUFFIX and is_result(path) == self._corrections:
                if not self._corrections:
                    self.foreign[path] = None
            else:
                self._take(path, folder)
                taken = True
        return taken

    def _files_in(self, folder: Path) -> Iterator[Path]:
        for top, folders, names in os.walk(folder):
            visible = (name for name in folders if not name.startswith("."))
            folders[:] = sorted(visible) if self._recursive else []
            for name in sorted(names):
                path = Path(top, name)
                # Opening a pipe or a device could block for ever.
                wanted = path.suffix.lower() in self._suffixes and not name.startswith(".")
                if wanted and path.is_file():
                    yield path


def is_result(path: Path) -> bool:
    """Return whether a JSON file may hold a result; a damaged file may, so that reading reports it.

    JSON of another kind (a run's summary, an annotation tool's export) is not a result.
    """
    try:
        document = read_json(path)
    except FormatError:
        return True
    return isinstance(document, dict) and {"schema_version", "kind"} <= document.keys()


def _fixed_part(pattern: str) -> Path:
    """Return the folders of a pattern before its first wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts[:-1]))
