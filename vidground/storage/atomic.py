"""Write files so that they appear whole or not at all: beside their place, then renamed into it."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
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


def write_atomically(path: str | Path, content: str | bytes, *, parents: bool = False) -> None:
    """Write a file so that a reader finds the old one or the whole new one.

    Args:
        path: the file; see `atomic_path`.
        content: str is written as UTF-8, with line endings unchanged.
        parents: create missing parent folders.

    Raises:
        FormatError: the file cannot be written, or the text is not valid Unicode.
    """
    with atomic_path(path, parents=parents) as temporary, _reported(path):
        data = content.encode() if isinstance(content, str) else content
        temporary.write_bytes(data)


@contextmanager
def atomic_path(path: str | Path, *, flush: bool = True, parents: bool = False) -> Iterator[Path]:
    """Yield a new empty file to write to, which replaces `path` when the block ends.

    The new file lies in the same folder under a hidden unique name `.vidground-*` with the same
    suffix. On any exception, including Ctrl-C, it is removed and `path` stays as it was; what a
    killed process leaves behind is removed by `remove_leftovers`. Permissions are those of the
    replaced file, or those that `open` would give. A symbolic link stays and its target is
    replaced.

    Args:
        path: the file to create or replace.
        flush: wait until the content is on the disk. Without it a power cut may leave a damaged
            file, which is acceptable only for files whose damage is detected.
        parents: create missing parent folders.

    Raises:
        FormatError: the folder is missing or read-only, the disk is full, or `path` is a folder,
            a device or a pipe. Errors of the block itself pass through.
    """
    with _reported(path):
        target = Path(os.path.realpath(path))
        mode = _mode(target)
    if parents:
        make_folder(target.parent)
    unique = secrets.token_hex(8)
    temporary = target.with_name(f"{_temporary_prefix(target)}{unique}{target.suffix}")
    try:
        with _reported(path):
            # Mode 0o666 minus the umask, as `open` does; `tempfile` would make it private.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            if mode is not None:
                temporary.chmod(mode)
            mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        with _reported(path):
            temporary.chmod(mode)  # safetensors replaces the file by a private one
            if flush:
                _flush(temporary)
            temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes left beside `path` because they were killed while writing it.

    Call this only while nobody else writes `path`: files that are being written look the same.

    Raises:
        FormatError: they cannot be removed.
    """
    with _reported(path):
        target = Path(os.path.realpath(path))
        for leftover in target.parent.glob(f"{_temporary_prefix(target)}*"):
            leftover.unlink(missing_ok=True)


def make_folder(folder: str | Path) -> None:
    """Create a folder and its parents unless they exist.

    Raises:
        FormatError: it cannot be created.
    """
    with _reported(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def open_to_umask(paths: Iterable[str | Path]) -> None:
    """Give files the permissions that `open` gives a new file, in place of narrower ones.

    safetensors makes its files private to the user, whatever the umask.

    Raises FormatError if they cannot be changed.
    """
    for path in map(Path, paths):
        with _reported(path):
            probe = path.with_name(f"{_temporary_prefix(path)}{secrets.token_hex(8)}")
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                path.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
            finally:
                os.close(descriptor)
                probe.unlink()


def _temporary_prefix(target: Path) -> str:
    """Return how the names of temporary files for `target` begin; short whatever its name is."""
    return f".vidground-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _mode(target: Path) -> int | None:
    """Return the permissions of the file to replace; None if there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        # A rename would replace /dev/null by a plain file.
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
    """Turn system errors about `path` into a FormatError with a remedy."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise FormatError(f"{path}: cannot be written: {reason}") from error
    except ValueError as error:  # a NUL in the name, a lone surrogate in the text
        raise FormatError(f"{path}: cannot be written: {error}") from error
