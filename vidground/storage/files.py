"""Files on disk: which names are videos, what may be opened, and the hash of a file.

Imports neither torch nor PyAV.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vidground.errors import VideoError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avc", ".avi", ".divx", ".dv", ".dvr-ms", ".evo",
    ".f4v", ".flv", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts",
    ".m2v", ".m4v", ".mj2", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv",
    ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp",
    ".ts", ".vob", ".vro", ".webm", ".wmv", ".wtv", ".y4m",
})
# fmt: on
"""Lower-case suffixes of the files that count as videos when a folder is searched."""

_HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file is written to or replaced.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last change, in nanoseconds since 1970.
        inode: its number in the file system.
    """

    size: int
    mtime_ns: int
    inode: int


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the current state of a file; None if it does not exist."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return FileState(status.st_size, status.st_mtime_ns, status.st_ino)


def change_time_ns(path: str | os.PathLike[str]) -> int | None:
    """Return when a file or its metadata last changed, in ns since 1970; None without a file.

    Programs cannot set this time, so it tells a file from its replacement of equal size whose
    modification time was copied.
    """
    try:
        return Path(path).stat().st_ctime_ns
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path for messages: quoted, without line breaks or invalid characters."""
    return ascii(os.fspath(path)) if not os.fspath(path).isprintable() else f"'{path}'"


def require_regular_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a regular file; opening anything else could block forever.

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
        raise VideoError(f"{name}: no permission to read it; change the file's permissions")
    return status


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content in lower-case hex; reads 1 MiB at a time.

    Raises:
        VideoError: the path is not a readable regular file.
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
