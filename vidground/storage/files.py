"""Files on disk: which names are videos, what may be opened, what a file's hash is.

Knows nothing of what is inside a video; imports neither torch nor PyAV.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vidground.errors import VideoError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc",
    ".ivf", ".m2ts", ".m2v", ".m4v", ".mj2", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
    ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob",
    ".webm", ".wmv", ".wtv", ".y4m",
})
# fmt: on
"""Lower-case suffixes of the files that count as videos when a folder is searched."""

_HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileState:
    """What differs once a file has been written to or replaced: bytes, time of change, inode."""

    size: int
    mtime_ns: int
    inode: int


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of a file now; None if there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return FileState(status.st_size, status.st_mtime_ns, status.st_ino)


def printable(path: str | os.PathLike[str]) -> str:
    """Return the path quoted and free of newlines and broken characters, for messages."""
    return ascii(os.fspath(path)) if not os.fspath(path).isprintable() else f"'{path}'"


def require_regular_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the file's status; opening anything but a regular file could block for ever.

    Raises:
        VideoError: the path is missing, unreadable, empty, or not a regular file.
    """
    name = printable(path)
    try:
        status = Path(path).stat()
    except ValueError as error:  # a NUL byte in the name
        raise VideoError(f"{name}: not a file name ({error})") from error
    except FileNotFoundError as error:
        raise VideoError(f"{name}: no such file; check the path") from error
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({error.strerror})") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{name}: is a directory; name a video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{name}: not a regular file; save the stream to a file first")
    if status.st_size == 0:
        raise VideoError(f"{name}: the file is empty (0 bytes); fetch it again")
    if not os.access(path, os.R_OK):
        raise VideoError(f"{name}: no permission to read it; change the file's mode")
    return status


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the file's content, lower-case hex; reads 1 MiB at a time.

    Raises:
        VideoError: the path is not a regular file that can be read.
    """
    require_regular_file(path)
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise VideoError(f"{printable(path)}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
