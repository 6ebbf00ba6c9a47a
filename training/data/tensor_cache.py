"""Tensors on disk, kept between epochs and runs, within a number of bytes.

A cache is a folder of safetensors files, one for each key; `bounded_folder` enforces the limit.
Does not know what the tensors are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidground.errors import FormatError
from vidground.storage.bounded_folder import BoundedFolder
from vidground.storage.row_file import HEADER_BYTES


class TensorCache:
    """Named tensors under keys, in a folder of at most `max_bytes`.

    Args:
        folder: made if it does not exist; holds only this cache.
        max_bytes: largest size of all files, at least 1.

    Raises:
        InputError: `max_bytes` is below 1, or the folder holds something else.
        FormatError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        self._files = BoundedFolder(folder, max_bytes=max_bytes)

    @property
    def max_bytes(self) -> int:
        """Largest size of the folder, in bytes."""
        return self._files.max_bytes

    def load(self, key: str) -> dict[str, Tensor] | None:
        """Return the tensors of a key, memory-mapped and read-only; None if there are none.

        They stay valid when the file is removed.
        """
        try:
            return load_file(self._files.used(key))
        except FileNotFoundError:
            return None
        except SafetensorError:
            # Truncated by a crash of the machine, or overwritten: a cache miss.
            self._files.path(key).unlink(missing_ok=True)
            return None

    def store(self, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Store tensors under a key; return False if they exceed the whole cache.

        Raises:
            FormatError: the file cannot be written, for instance because the disk is full.
        """
        size = HEADER_BYTES + sum(tensor.nbytes for tensor in tensors.values())
        try:
            with self._files.writing(key, size) as lease:
                if lease is not None:
                    parts = {name: part.contiguous() for name, part in tensors.items()}
                    save_file(parts, lease.path)
        except (OSError, SafetensorError) as error:
            raise FormatError(
                f"{self._files.folder}: frames cannot be stored: {error}; free space or choose "
                "another folder"
            ) from error
        return lease is not None
