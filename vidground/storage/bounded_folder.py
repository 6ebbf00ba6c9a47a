"""A folder of files under keys, within a number of bytes: what was used least recently goes first.

A file appears whole, by rename. Several processes may share a folder: the bytes in it are counted
under a lock. Knows nothing of what is in the files; imports no torch.
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
"""Of the files; what is named otherwise is none of this folder's business."""

HEADER_BYTES = 4096
"""A generous share for a file's header, so that the limit holds for files and not for tensors."""

_RESERVED = ".reserved"
_LEDGER = "bytes.lock"
_KEPT_SHARE = 0.9
"""What is left of a full folder: files go several at once, for all must be listed to choose."""
_ABANDONED_S = 3600.0
"""A file that is still being written after so long belongs to a process that is gone."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the folder. used_at: when it was last read or written, in seconds since 1970."""

    path: Path
    size_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Room for a file that is being written to `path`; `renew` it at least once an hour."""

    path: Path
    reservation: Path

    def renew(self) -> None:
        """Say that the writing goes on. Raises OSError if the room was taken away."""
        os.utime(self.reservation)


class BoundedFolder:
    """Files under keys in a folder of at most `max_bytes`.

    Args:
        folder: made if it does not exist; holds nothing else.

    Raises:
        InputError: `max_bytes` is below 1, or the folder holds what is not a cache's.
        FormatError: the folder cannot be made or looked into.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"a cache of {max_bytes} bytes holds nothing; give 1 or more")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        make_folder(self.folder)
        try:
            self._take_possession()
        except OSError as error:
            raise FormatError(
                f"{self.folder} cannot be looked into: {error.strerror}; choose another folder"
            ) from error

    def path(self, key: str) -> Path:
        """Where the file of a key is, if there is one."""
        return self.folder / f"{key}{SUFFIX}"

    def used(self, key: str) -> Path:
        """The file of a key, which counts as used now. Raises FileNotFoundError."""
        path = self.path(key)
        with suppress(PermissionError):  # another user's, who lets it be read
            os.utime(path)  # before it is read, so that nobody removes it meanwhile
        return path

    @contextmanager
    def writing(self, key: str, size: int, *, flush: bool = True) -> Iterator[Lease | None]:
        """Lend a new file of at most `size` bytes, which is the key's when the block ends.

        It is removed instead if the block raises. None is lent if the folder has no such room:
        it is too small, or full of what others are writing.

        Args:
            flush: wait until the file is on the disk. Without it, a power cut may leave a
                damaged file.

        Raises:
            OSError or FormatError: the file cannot be written; the disk is full, for instance.
        """
        # Others would be removed in vain for what is larger than the folder.
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
        """What is kept, in no order; what is being written is not."""
        return [
            file
            for file in self._all()
            if file.path.suffix == SUFFIX and not file.path.name.startswith(".")
        ]

    def clear(self) -> list[StoredFile]:
        """Remove what is kept, and return it."""
        with self._ledger() as ledger:
            removed = self.files()
            for file in removed:
                file.path.unlink(missing_ok=True)
            ledger.write(str(self._counted()[1]))
        return removed

    def _take_possession(self) -> None:
        """Put the ledger into a new folder; files of others might be removed from another one."""
        ledger = self.folder / _LEDGER
        is_new = not ledger.exists()
        # Asked again, for what was found may be the ledger that another process has just made.
        if is_new and any(self.folder.iterdir()) and not ledger.exists():
            raise InputError(
                f"{self.folder} holds other files, and a cache may remove what it finds; choose "
                "an empty folder"
            )
        with suppress(OSError):  # told of when something is to be written
            ledger.touch()

    def _reserve(self, size: int) -> Path | None:
        """Count `size` more bytes in, after others were removed if that were too many.

        A file that stands for the bytes until they are written is returned; None if they do not
        fit. The count may be too high, when a write failed or two processes wrote the same key;
        it is corrected when files are removed.
        """
        with self._ledger() as ledger:
            known = ledger.read()
            # Nothing is written in a new folder, or after a crash at the wrong moment.
            total = int(known) if known.isdigit() else self._counted()[1]
            if total + size > self.max_bytes:
                total = self._remove_oldest(int(self.max_bytes * _KEPT_SHARE) - size)
            fits = total + size <= self.max_bytes
            ledger.write(str(total + size if fits else total))
            return self._reservation(size) if fits else None

    def _reservation(self, size: int) -> Path:
        path = self.folder / f"{secrets.token_hex(8)}{_RESERVED}"
        path.touch()
        os.truncate(path, size)  # takes no room: nothing is written
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
        """Remove the files used least recently until `limit` bytes are left, if so many can go.

        How many are left, with those that are reserved.
        """
        removable, total = self._counted()
        for file in sorted(removable, key=lambda file: file.used_at):
            if total <= limit:
                break
            file.path.unlink(missing_ok=True)
            total -= file.size_bytes
        return total

    def _counted(self) -> tuple[list[StoredFile], int]:
        """The files that may be removed, and the bytes of all.

        What is being written counts with its reservation and cannot be removed.
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
        """What is kept, is being written, or stands for bytes to come."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith((SUFFIX, _RESERVED)):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # gone since it was listed
                    continue
                yield StoredFile(Path(entry.path), status.st_size, status.st_mtime)


class _Ledger:
    """The number of bytes in a folder, as text in a file that is locked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> str:
        return os.pread(self._descriptor, 32, 0).decode("ascii", "replace")

    def write(self, text: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("ascii"), 0)
