"""Where the video of a stored result lies now, and how a page or a terminal links to it.

A result names its video as it was given to the run, perhaps from another folder. Looks names up;
opens no file.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from vidground.video.info import VideoInfo


def find_video(
    info: VideoInfo, *, result: str | os.PathLike[str] | None = None, folders: Sequence[Path] = ()
) -> Path | None:
    """Return the video of a result; None if it is not found.

    Looked for at `info.path` from the current folder, from the folder of the result and those
    above it, then by its name beside the result, and last in `folders` by as much of its path as
    fits. Only a regular file of the recorded size counts: a path in a result that somebody else
    made opens no other file, and times fit no other video.

    result: the file that the result was read from.
    """
    for place in _candidates(Path(info.path), result, folders):
        try:
            if place.is_file() and place.stat().st_size == info.size_bytes:
                return place
        except (OSError, ValueError):  # no permission, a NUL byte in the name
            continue
    return None


def _candidates(
    path: Path, result: str | os.PathLike[str] | None, folders: Iterable[Path]
) -> Iterator[Path]:
    yield path
    if result is not None:
        beside = Path(os.path.abspath(result)).parent  # noqa: PTH100 - keeps links as they are
        for folder in () if path.is_absolute() else (beside, *beside.parents):
            yield folder / path
        yield beside / path.name
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for folder in folders:
        for skipped in range(len(parts)):
            yield folder.joinpath(*parts[skipped:])


def file_uri(path: str | os.PathLike[str]) -> str:
    """Return the address of a file, everything quoted that is not plain ASCII."""
    return "file://" + _quoted(os.path.abspath(path))  # noqa: PTH100 - keeps links as they are


def relative_link(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return the address of a file for a page in `folder`; it holds as long as both move along.

    A colon is quoted, so that no part of a name can be taken for a scheme.
    """
    return _quoted(os.path.relpath(path, folder))


def _quoted(path: str) -> str:
    return quote(os.fsencode(path), safe="/")
