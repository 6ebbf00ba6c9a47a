"""Tensors kept on disk between epochs and runs, within a number of bytes.

A cache is a folder of safetensors files, one for each key. A file appears whole, by rename; what
was read least recently goes first. Several processes may share a folder: the bytes in it are
counted under a lock. Knows nothing of what the tensors are.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidground.atomic import atomic_path, make_folder
from vidground.errors import FormatError, InputError

_SUFFIX = ".safetensors"
_RESERVED = ".reserved"
_LEDGER = "bytes.lock"
_HEADER_BYTES = 4096
"""A generous share for a file's header, so that the limit holds for files and not for tensors."""
_KEPT_SHARE = 0.9
"""What is left of a full cache: files go several at once, for all must be listed to choose."""
_ABANDONED_S = 3600.0
"""A file that is still being written after so long belongs to a process that is gone."""


class TensorCache:
    """Named tensors under keys, in a folder of at most `max_bytes`.

    Args:
        folder: made if it does not exist; holds nothing but this cache.

    Raises:
        InputError: `max_bytes` is below 1. FormatError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        if max_bytes < 1:
            raise InputError(f"a cache of {max_bytes} bytes holds nothing; give 1 or more")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        make_folder(self.folder)

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tensors stored under `key`, mapped from the file, not to be written to; or None.

        They stay valid when the file is removed.
        """
        path = self._path(key)
        try:
            os.utime(path)  # first, so that nobody removes it while it is read
            return load_file(path)
        except FileNotFoundError:
            return None
        except SafetensorError:
            # Cut off by a crash of the machine, or overwritten: as good as not there.
            path.unlink(missing_ok=True)
            return None

    def store(self, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Keep the tensors under `key`; False if they are more than the cache may hold.

        Raises:
            FormatError: the file cannot be written; the disk is full, for instance.
        """
        size = _HEADER_BYTES + sum(tensor.nbytes for tensor in tensors.values())
        if size > self.max_bytes:  # others would be removed in vain
            return False
        reservation = self._reserve(size)
        if reservation is None:
            return False
        try:
            with atomic_path(self._path(key)) as temporary:
                save_file({name: part.contiguous() for name, part in tensors.items()}, temporary)
        except (OSError, SafetensorError) as error:
            raise FormatError(
                f"{self.folder}: frames cannot be kept here: {error}; free space or choose "
                "another folder"
            ) from error
        finally:
            reservation.unlink(missing_ok=True)
        return True

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _reserve(self, size: int) -> Path | None:
        """Count `size` more bytes in, after others were removed if that were too many.

        A file that stands for the bytes until they are written is returned; None if they do not
        fit. The count may be too high, when a write failed or two processes wrote the same key;
        it is corrected when files are removed.
        """
        with self._ledger() as ledger:
            known = ledger.read()
            # Nothing is written in a new folder, or after a crash at the wrong moment.
            total = int(known) if known.isdigit() else self._files()[1]
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
        """Remove the files read least recently until `limit` bytes are left, if so many can go.

        How many are left, with those that are reserved.
        """
        removable, total = self._files()
        for _, size, path in sorted(removable):
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _files(self) -> tuple[list[tuple[float, int, Path]], int]:
        """When each file was last read, its bytes and its path; and the bytes of all.

        What is being written counts with its reservation and cannot be removed.
        """
        removable, total = [], 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith((_SUFFIX, _RESERVED)):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # gone since it was listed
                    continue
                reserved = entry.name.endswith(_RESERVED)
                in_writing = entry.name.startswith(".") or reserved
                if not in_writing or status.st_mtime < time.time() - _ABANDONED_S:
                    removable.append((status.st_mtime, status.st_size, Path(entry.path)))
                elif not reserved:
                    continue
                total += status.st_size
        return removable, total


class _Ledger:
    """The number of bytes in a folder, as text in a file that is locked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> str:
        return os.pread(self._descriptor, 32, 0).decode("ascii")

    def write(self, text: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("ascii"), 0)
