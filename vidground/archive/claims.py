"""Claims on videos: of several runs over one folder, only one works on a video at a time.

A claim is a lock of the operating system on one byte of a hidden file, so it ends with the process
that holds it, however the process ends. Nothing needs to be cleaned up, and no clocks are compared.
Does not know what is done under a claim.
"""

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidground.errors import FormatError
from vidground.storage.atomic import make_folder
from vidground.storage.files import printable

LOCK_FILE = ".vidground.lock"

_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def claim(folder: str | os.PathLike[str], name: str) -> Iterator[bool]:
    """Try to claim `name` in `folder`, among all processes and threads.

    Args:
        folder: with the results.
        name: of the results.

    Yields:
        Whether the claim succeeded; it lasts until the block ends.

    Raises:
        FormatError: the folder is not writable, or its file system has no locks.
    """
    descriptor = _open(Path(folder))
    try:
        yield _lock(descriptor, name, folder)
    finally:
        os.close(descriptor)  # which also ends the lock


def _open(folder: Path) -> int:
    """Open the lock file, which is created if needed and never removed."""
    make_folder(folder)
    path = folder / LOCK_FILE
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FormatError(
            f"{printable(folder)}: no results can be written here: {error.strerror}; "
            "choose another folder"
        ) from error


def _lock(descriptor: int, name: str, folder: str | os.PathLike[str]) -> bool:
    """Lock the byte for `name`; it may be beyond the end of the file.

    The lock belongs to the open file, not to the process: two claims in one process exclude each
    other, too, and closing another descriptor of the file does not release it.
    """
    digest = hashlib.sha256(os.fsencode(name)).digest()
    place = int.from_bytes(digest[:8], "big") >> 2  # an offset that every file system accepts
    # struct flock: type, whence, start, length, process (0, as the system asks for)
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _NO_LOCKS:
            raise FormatError(
                f"{printable(folder)}: its file system has no locks ({error.strerror}), without "
                "which two runs could spoil each other; write results to a local folder, or keep "
                "no record of the run (--no-manifest)"
            ) from error
        raise
    return True
