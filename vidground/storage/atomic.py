"""Output files that appear whole or not at all: written beside their place, then renamed into it.

Knows nothing of what the files hold.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vidground.errors import FormatError

_REASONS = {
    errno.ENOENT: "the folder does not exist; create it",
    errno.EEXIST: "a file has its name; choose another folder",
    errno.ENOTDIR: "a part of its folder is a file; choose another folder",
    errno.EISDIR: "it is a folder; add a file name",
    errno.EACCES: "no permission; choose another folder",
    errno.EPERM: "no permission; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free space or choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a reader finds the old file or the whole new one.

    str is written as UTF-8, line ends unchanged. See `atomic_path` for the rest.

    Raises FormatError if the file cannot be written or the text is not valid Unicode.
    """
    with atomic_path(path) as temporary, _reported(path):
        data = content.encode() if isinstance(content, str) else content
        temporary.write_bytes(data)


@contextmanager
def atomic_path(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """Lend a new empty file to write to, which takes the place of `path` when the block ends.

    The lent file lies in the same folder under a hidden unique name `.vidground-*` with the same
    suffix, and is removed on any exception, Ctrl-C included; what was at `path` then stays. What
    a killed process leaves is found by `remove_leftovers`.
    Permissions are those of the file replaced, or those of a file made by `open`. A symbolic
    link stays, its target is replaced. flush: wait until the content is on the disk; only for
    files that can be told from damaged ones may a power cut come first.

    Raises FormatError if the folder is missing or read-only, the disk is full, or `path` is a
    folder, a device or a pipe. Errors of the block itself pass through.
    """
    with _reported(path):
        target = Path(os.path.realpath(path))
        mode = _mode(target)
    unique = secrets.token_hex(8)
    temporary = target.with_name(f"{_temporary_prefix(target)}{unique}{target.suffix}")
    try:
        with _reported(path):
            # Mode 0o666 less the umask, as `open` does; `tempfile` would make it private.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            if mode is not None:
                temporary.chmod(mode)
        yield temporary
        with _reported(path):
            if flush:
                _flush(temporary)
            temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it.

    Only for the one who alone writes `path` now: files that are being written look the same.

    Raises FormatError if they cannot be removed.
    """
    with _reported(path):
        target = Path(os.path.realpath(path))
        for leftover in target.parent.glob(f"{_temporary_prefix(target)}*"):
            leftover.unlink(missing_ok=True)


def make_folder(folder: str | Path) -> None:
    """Create a folder and those above it unless they exist. Raises FormatError if it cannot."""
    with _reported(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def _temporary_prefix(target: Path) -> str:
    """How the names of temporary files for `target` begin; short, whatever its name is."""
    return f".vidground-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _mode(target: Path) -> int | None:
    """Return the permissions of the file to replace, None if there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        # A rename would put a plain file in the place of /dev/null.
        raise OSError(errno.EINVAL, "it is a device or a pipe; name a file")
    return stat.S_IMODE(mode)


def _flush(path: Path) -> None:
    """Wait until the content is on the disk, so that a power cut leaves no empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reported(path: str | Path) -> Iterator[None]:
    """Turn what the system says about `path` into a FormatError with a remedy."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise FormatError(f"{path}: cannot be written: {reason}") from error
    except ValueError as error:  # a NUL in the name, a lone surrogate in the text
        raise FormatError(f"{path}: cannot be written: {error}") from error
