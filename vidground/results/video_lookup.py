"""Find the video of a stored result, check that it is the same one, and link to it.

A result names its video as it was given to the run, perhaps from another folder. A file is opened
only to hash it.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from vidground.errors import VideoError
from vidground.results.documents import Result, video_of
from vidground.storage.files import file_sha256, printable, require_regular_file
from vidground.video.info import VideoInfo

_SHOWN_DIGITS = 12


def find_video(
    info: VideoInfo, *, result: str | os.PathLike[str] | None = None, folders: Sequence[Path] = ()
) -> Path | None:
    """Return the path of a result's video; None if it is not found.

    Looks at `info.path` from the current folder, from the result's folder and those above it; then
    for its name beside the result; and last in `folders`, for the longest part of its path that
    exists there. Only a regular file of the recorded size counts, so that a path in a result made
    by somebody else opens no other file, and times are never applied to another video.

    Args:
        info: the video, as recorded in the result.
        result: the file that the result was read from.
        folders: further places to search.
    """
    for place in _candidates(Path(info.path), result, folders):
        try:
            if place.is_file() and place.stat().st_size == info.size_bytes:
                return place
        except (OSError, ValueError):  # no permission, a NUL byte in the name
            continue
    return None


def require_video(
    result: Result,
    stored: str | os.PathLike[str],
    given: str | os.PathLike[str] | None = None,
    *,
    any_video: bool = False,
) -> Path:
    """Return the video that `result` is about: the one given, or where the result says it lies.

    Its SHA-256 must be the recorded one; where none is recorded, its size in bytes.

    Args:
        result: what was found in the video.
        stored: the file that the result was read from.
        given: the video; None looks for it with `find_video`.
        any_video: accept `given` whatever it holds.

    Raises:
        VideoError: the video is not found, is not a regular file, or is another one.
    """
    info = video_of(result)
    video = find_video(info, result=stored) if given is None else Path(given)
    if video is None:
        raise VideoError(
            f"{printable(info.path)}: the video of {printable(stored)} was not found, or has "
            "another size; name it before the result"
        )
    size = require_regular_file(video).st_size
    if given is not None and any_video:
        return video
    if info.sha256 is None:
        measured, recorded = f"{size} bytes", f"{info.size_bytes} bytes"
    else:
        measured, recorded = (
            f"SHA-256 {h[:_SHOWN_DIGITS]}" for h in (file_sha256(video), info.sha256)
        )
    if measured != recorded:
        raise VideoError(
            f"{printable(video)} has {measured}, the video of {printable(stored)} has {recorded}; "
            "name that one, or accept this one with --any-video"
        )
    return video


def file_uri(path: str | os.PathLike[str]) -> str:
    """Return the `file://` address of a file; everything but plain ASCII is quoted."""
    return "file://" + _quoted(os.path.abspath(path))  # noqa: PTH100 - keeps links as they are


def relative_link(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return the address of a file for a page in `folder`; it holds while both move together.

    A colon is quoted, so that no part of a name can be taken for a scheme.
    """
    return _quoted(os.path.relpath(path, folder))


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


def _quoted(path: str) -> str:
    return quote(os.fsencode(path), safe="/")
