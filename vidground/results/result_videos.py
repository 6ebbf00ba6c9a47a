"""The video that a stored result is about, found and made sure of. Opens it only to hash it."""

import os
from pathlib import Path

from vidground.errors import VideoError
from vidground.results.documents import Result, video_of
from vidground.results.video_lookup import find_video
from vidground.storage.files import file_sha256, printable, require_regular_file

_SHOWN_DIGITS = 12


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
        stored: the file that the result was read from.
        given: None to look for it (`vidground.results.video_lookup`).
        any_video: take the one given whatever it holds.

    Raises:
        VideoError: it is not found, no regular file, or another one.
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
            "name that one, or take this one all the same with --any-video"
        )
    return video
