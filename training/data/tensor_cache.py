"""Tensors kept on disk between epochs and runs, within a number of bytes.

A cache is a folder of safetensors files, one for each key; see `bounded_folder` for what keeps it
within its bound. Knows nothing of what the tensors are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidground.errors import FormatError
from vidground.storage.bounded_folder import HEADER_BYTES, BoundedFolder


class TensorCache:
    """Named tensors under keys, in a folder of at most `max_bytes`.

    Args:
        folder: made if it does not exist; holds nothing but this cache.

    Raises:
        InputError: `max_bytes` is below 1, or the folder holds something else.
        FormatError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        self._files = BoundedFolder(folder, max_bytes=max_bytes)

    @property
    def max_bytes(self) -> int:
        """What the folder may hold."""
        return self._files.max_bytes

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tensors stored under `key`, mapped from the file, not to be written to; or None.

        They stay valid when the file is removed.
        """
        try:
            return load_file(self._files.used(key))
        except FileNotFoundError:
            return None
        except SafetensorError:
            # Cut off by a crash of the machine, or overwritten: as good as not there.
            self._files.path(key).unlink(missing_ok=True)
            return None

    def store(self, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Keep the tensors under `key`; False if they are more than the cache may hold.

        Raises:
            FormatError: the file cannot be written; the disk is full, for instance.
        """
        size = HEADER_BYTES + sum(tensor.nbytes for tensor in tensors.values())
        try:
            with self._files.writing(key, size) as lease:
                if lease is not None:
                    parts = {name: part.contiguous() for name, part in tensors.items()}
                    save_file(parts, lease.path)
        except (OSError, SafetensorError) as error:
            raise FormatError(
                f"{self._files.folder}: frames cannot be kept here: {error}; free space or choose "
                "another folder"
            ) from error
        return lease is not None
