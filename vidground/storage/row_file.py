"""Safetensors files written and read a few rows at a time, in constant memory.

A file holds one tensor `rows` of any length, and `details`, JSON that is known only at the end.
Its checksum is verified before any of it is used. Imports no torch.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vidground.errors import FormatError
from vidground.storage.files import printable

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
"""Bytes per number, by safetensors' name of the type."""

HEADER_BYTES = 4096
"""Size of the header that `RowWriter` reserves; more than that of a file with few tensors."""

_LENGTH_BYTES = 8
_CHECKED_BYTES = 1 << 20


class RowWriter:
    """Writes a file row by row; it is complete after `finish`.

    Args:
        path: the file, overwritten.
        dtype: a key of `ITEM_BYTES`.
        shape: of one row.

    Raises:
        OSError: here, in `append` and in `finish`, for instance because the disk is full.
    """

    def __init__(self, path: Path, *, dtype: str, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._dtype, self._shape = dtype, shape
        self._bytes = self._checksum = 0
        self._file = path.open("wb")
        try:
            self._file.write(bytes(HEADER_BYTES))  # filled by `finish`
        except OSError:
            self._file.close()
            raise

    def append(self, rows: memoryview, count: int) -> None:
        """Append `count` rows, given as bytes."""
        self._write(rows)
        self.count += count

    def finish(self, details: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Write the details and the header, and close the file.

        Args:
            details: any JSON.
            metadata: a few short texts, which `read_metadata` returns without reading the rows.
        """
        end_of_rows = self._bytes
        text = json.dumps(details).encode()
        self._write(memoryview(text))
        header = {
            "__metadata__": {**metadata, "crc32": str(self._checksum)},
            "rows": {
                "dtype": self._dtype,
                "shape": [self.count, *self._shape],
                "data_offsets": [0, end_of_rows],
            },
            "details": {
                "dtype": "U8",
                "shape": [len(text)],
                "data_offsets": [end_of_rows, self._bytes],
            },
        }
        room = HEADER_BYTES - _LENGTH_BYTES
        encoded = json.dumps(header).encode().ljust(room)
        assert len(encoded) == room, "the metadata are too long for the header"
        self._file.seek(0)
        self._file.write(room.to_bytes(_LENGTH_BYTES, "little") + encoded)
        self.close()

    def close(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._bytes += data.nbytes


class RowReader:
    """Reads a file that `RowWriter` has written. It stays readable after it was removed.

    Attributes:
        count: number of rows.
        shape: of one row.
        dtype: a key of `ITEM_BYTES`.
        details: as given to `RowWriter.finish`.

    Raises:
        FileNotFoundError: the file does not exist.
        FormatError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            header = _header(self._file.read(HEADER_BYTES))
            rows, details = header["rows"], header["details"]
            self.dtype: str = rows["dtype"]
            self.count: int = rows["shape"][0]
            self.shape: tuple[int, ...] = tuple(rows["shape"][1:])
            self._row_bytes = ITEM_BYTES[self.dtype]
            for side in self.shape:
                self._row_bytes *= side
            start, stop = details["data_offsets"]
            if start != self.count * self._row_bytes:
                raise ValueError("the number of rows and their size disagree")
            self._check(stop, int(header["__metadata__"]["crc32"]))
            text = self._bytes_at(start, stop - start)
            self.details: dict[str, Any] = json.loads(text)
        except (KeyError, TypeError, ValueError, OSError) as error:
            self._file.close()
            raise FormatError(f"{printable(path)}: damaged: {error}") from error

    def rows(self, start: int, stop: int) -> bytearray:
        """Return the bytes of the rows from `start` to `stop`, exclusive.

        Raises:
            FormatError: they cannot be read.
        """
        try:
            return self._bytes_at(start * self._row_bytes, (stop - start) * self._row_bytes)
        except (OSError, ValueError) as error:
            raise FormatError(f"{printable(self._file.name)}: cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _bytes_at(self, start: int, count: int) -> bytearray:
        data = bytearray(count)
        view, place = memoryview(data), HEADER_BYTES + start
        while view:
            got = os.preadv(self._file.fileno(), [view], place)
            if got == 0:
                raise ValueError("it ends too early")
            view, place = view[got:], place + got
        return data

    def _check(self, size: int, wanted: int) -> None:
        """Verify the number of bytes after the header, and their checksum."""
        found = os.fstat(self._file.fileno()).st_size - HEADER_BYTES
        if found != size:
            raise ValueError(f"it has {found} of {size} bytes")
        checksum = 0
        for start in range(0, size, _CHECKED_BYTES):
            data = self._bytes_at(start, min(_CHECKED_BYTES, size - start))
            checksum = zlib.crc32(data, checksum)
        if checksum != wanted:
            raise ValueError("its checksum is wrong")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata given to `RowWriter.finish`, without reading the rows.

    Raises:
        FileNotFoundError: the file does not exist.
        FormatError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            metadata: dict[str, str] = _header(file.read(HEADER_BYTES))["__metadata__"]
    except FileNotFoundError:
        raise
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise FormatError(f"{printable(path)}: damaged: {error}") from error
    return metadata


def _header(data: bytes) -> dict[str, Any]:
    if int.from_bytes(data[:_LENGTH_BYTES], "little") != HEADER_BYTES - _LENGTH_BYTES:
        raise ValueError("its header was not written by vidground")
    header = json.loads(data[_LENGTH_BYTES:])
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    return header
