"""A folder of files under keys with a size limit; the least recently used files are evicted.

Files appear whole, by rename. Several processes may share a folder: its bytes are counted under a
lock. Imports no torch.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vidground.errors import FormatError, InputError
from vidground.storage.atomic import atomic_path, make_folder

SUFFIX = ".safetensors"
"""Of the files; files with other names are ignored."""

_RESERVED = ".reserved"
_LEDGER = "bytes.lock"
_KEPT_SHARE = 0.9
"""Of a full folder after eviction: several files go at once, since choosing means listing all."""
_ABANDONED_S = 3600.0
"""A file that was not written to for this long belongs to a process that has ended."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the folder.

    Attributes:
        path: of the file.
        size_bytes: its size.
        used_at: when it was last read or written, in seconds since 1970.
    """

    path: Path
    size_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Reserved room for a file that is being written; `renew` it at least once an hour.

    Attributes:
        path: the file to write to.
        reservation: the file that holds the room.
    """

    path: Path
    reservation: Path

    def renew(self) -> None:
        """Keep the reservation alive.

        Raises:
            OSError: it has expired and was removed.
        """
        os.utime(self.reservation)


class BoundedFolder:
    """Files under keys in a folder of at most `max_bytes`.

    Args:
        folder: created if it does not exist; holds nothing else.
        max_bytes: limit for all files together, at least 1.

    Raises:
        InputError: `max_bytes` is below 1, or the folder holds files that are not a cache's.
        FormatError: the folder cannot be created or listed.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"a cache of {max_bytes} bytes holds nothing; allow at least 1 byte")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        make_folder(self.folder)
        try:
            self._take_possession()
        except OSError as error:
            raise FormatError(
                f"{self.folder} cannot be listed: {error.strerror}; choose another folder"
            ) from error

    def path(self, key: str) -> Path:
        """Return where the file of a key is if there is one."""
        return self.folder / f"{key}{SUFFIX}"

    def used(self, key: str) -> Path:
        """Return the file of a key and mark it as used now.

        Raises:
            FileNotFoundError: there is none.
        """
        path = self.path(key)
        with suppress(PermissionError):  # another user's file that may only be read
            os.utime(path)  # before it is read, so that nobody evicts it meanwhile
        return path

    @contextmanager
    def writing(self, key: str, size: int, *, flush: bool = True) -> Iterator[Lease | None]:
        """Yield a new file to write to, which becomes the key's file when the block ends.

        It is removed instead if the block raises. Yields None if the folder has no room: it is
        too small, or full of files that others are writing.

        Args:
            key: name of the file without its suffix.
            size: upper limit of the file's bytes.
            flush: wait until the file is on the disk. Without it, a power cut may leave a
                damaged file.

        Raises:
            OSError or FormatError: the file cannot be written, for instance because the disk is
                full.
        """
        # A file larger than the folder would evict others in vain.
        reservation = self._reserve(size) if size <= self.max_bytes else None
        if reservation is None:
            yield None
            return
        try:
            with atomic_path(self.path(key), flush=flush) as temporary:
                yield Lease(temporary, reservation)
        finally:
            reservation.unlink(missing_ok=True)

    def files(self) -> list[StoredFile]:
        """Return the complete files, in no order."""
        return [
            file
            for file in self._all()
            if file.path.suffix == SUFFIX and not file.path.name.startswith(".")
        ]

    def clear(self) -> list[StoredFile]:
        """Remove the complete files and return them."""
        with self._ledger() as ledger:
            removed = self.files()
            for file in removed:
                file.path.unlink(missing_ok=True)
            ledger.write(str(self._counted()[1]))
        return removed

    def _take_possession(self) -> None:
        """Create the ledger in a new folder; refuse a folder with files of other programs."""
        ledger = self.folder / _LEDGER
        is_new = not ledger.exists()
        # Checked again: what was found may be the ledger that another process has just created.
        if is_new and any(self.folder.iterdir()) and not ledger.exists():
            raise InputError(
                f"{self.folder} holds other files, which a cache could remove; choose an empty "
                "folder"
            )
        with suppress(OSError):  # reported when something is written
            ledger.touch()

    def _reserve(self, size: int) -> Path | None:
        """Reserve `size` bytes, after evicting other files if that is needed.

        Returns a file that stands for the bytes until they are written; None if they do not fit.
        The count may be too high after a failed write, or if two processes wrote the same key; it
        is corrected when files are evicted.
        """
        with self._ledger() as ledger:
            known = ledger.read()
            # The ledger is empty in a new folder, and after a crash while it was written.
            total = int(known) if known.isdigit() else self._counted()[1]
            if total + size > self.max_bytes:
                total = self._remove_oldest(int(self.max_bytes * _KEPT_SHARE) - size)
            fits = total + size <= self.max_bytes
            ledger.write(str(total + size if fits else total))
            return self._reservation(size) if fits else None

    def _reservation(self, size: int) -> Path:
        path = self.folder / f"{secrets.token_hex(8)}{_RESERVED}"
        path.touch()
        os.truncate(path, size)  # a sparse file, which takes no room on the disk
        return path

    @contextmanager
    def _ledger(self) -> Iterator[_Ledger]:
        descriptor = os.open(self.folder / _LEDGER, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _Ledger(descriptor)
        finally:
            os.close(descriptor)  # unlocks

    def _remove_oldest(self, limit: int) -> int:
        """Evict the least recently used files until at most `limit` bytes are left, if possible.

        Returns the bytes left, including reserved ones.
        """
        removable, total = self._counted()
        for file in sorted(removable, key=lambda file: file.used_at):
            if total <= limit:
                break
            file.path.unlink(missing_ok=True)
            total -= file.size_bytes
        return total

    def _counted(self) -> tuple[list[StoredFile], int]:
        """Return the files that may be evicted, and the bytes of all.

        A file that is being written counts by its reservation and cannot be evicted.
        """
        removable, total = [], 0
        for file in self._all():
            reserved = file.path.suffix == _RESERVED
            in_writing = file.path.name.startswith(".") or reserved
            if not in_writing or file.used_at < time.time() - _ABANDONED_S:
                removable.append(file)
            elif not reserved:
                continue
            total += file.size_bytes
        return removable, total

    def _all(self) -> Iterator[StoredFile]:
        """Yield complete files, files that are being written, and reservations."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith((SUFFIX, _RESERVED)):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # removed since it was listed
                    continue
                yield StoredFile(Path(entry.path), status.st_size, status.st_mtime)


class _Ledger:
    """The number of bytes in a folder, as text in a locked file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> str:
        return os.pread(self._descriptor, 32, 0).decode("ascii", "replace")

    def write(self, text: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("ascii"), 0)
