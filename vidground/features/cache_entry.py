"""Entries of the feature cache: rows of tensors, and all that is known of the video they are of.

`Entry` writes one while the video is encoded, `StoredVideo` reads it. Knows no keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import accumulate
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from vidground.errors import FormatError
from vidground.features.video_features import VideoFacts
from vidground.storage.bounded_folder import BoundedFolder, Lease
from vidground.storage.row_file import HEADER_BYTES, RowReader, RowWriter
from vidground.video.info import VideoInfo

_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_DETAILS_BYTES, _DETAILS_BYTES_PER_SAMPLE = 4 << 10, 40
"""A generous share of an entry for what is known of the video."""


class Entry:
    """An entry that is being written. What goes wrong is told to `on_error` and no one else.

    Args:
        folder: None keeps nothing. most: rows that may come. samples: of the video.
        metadata: what `vidground cache info` tells entries apart by. is_wanted: asked at the end
            whether the file is still the one that was hashed.
    """

    def __init__(
        self,
        folder: BoundedFolder | None,
        key: str,
        *,
        most: int,
        samples: int,
        metadata: dict[str, str],
        is_wanted: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._folder = folder
        self._key = key
        self._most = most
        self._details_bytes = _DETAILS_BYTES + _DETAILS_BYTES_PER_SAMPLE * samples
        self._metadata = metadata
        self._is_wanted = is_wanted
        self._on_error = on_error
        self._stack = ExitStack()
        self._open: tuple[Lease, RowWriter] | None = None
        self._wanted = folder is not None

    def append(self, rows: Tensor) -> None:
        """Add rows, (N, …), in a type that numbers are kept in."""
        if not self._wanted:
            return
        try:
            lease, writer = self._open = self._open or self._begin(rows)
            if writer.count + len(rows) > self._most:
                raise _AbandonedError
            lease.renew()
            data = rows.contiguous().cpu().view(torch.uint8).reshape(-1).numpy()
            writer.append(data.data, len(rows))
        except _AbandonedError:
            self.close()
        except (OSError, FormatError) as error:
            self.close()
            self._on_error(error)

    def keep(self, video: VideoFacts, spans: Sequence[tuple[int, int]], dtype: torch.dtype) -> None:
        """Make it an entry. spans: the samples that each row is of. dtype: what rows stand for."""
        if self._open is None or not self._wanted or not self._is_wanted():
            return
        info = asdict(video.info)
        del info["path"]  # it may be found again under another name
        details = {
            "info": info,
            "times_s": list(video.times_s),
            "warnings": list(video.warnings),
            "counts": [last - first + 1 for first, last in spans],
            "dtype": _NAMES[dtype],
        }
        try:
            self._open[1].finish(details, self._metadata)
            self._stack.close()
        except (OSError, FormatError) as error:
            self.close()
            self._on_error(error)
        self._wanted = False

    def close(self) -> None:
        """Remove what was written, unless it was kept."""
        self._wanted = False
        with suppress(_AbandonedError, OSError, FormatError), self._stack:
            raise _AbandonedError

    def _begin(self, rows: Tensor) -> tuple[Lease, RowWriter]:
        assert self._folder is not None
        size = HEADER_BYTES + self._most * rows[0].nbytes + self._details_bytes
        lease = self._stack.enter_context(self._folder.writing(self._key, size, flush=False))
        if lease is None:  # larger than the cache may be
            raise _AbandonedError
        shape, dtype = tuple(rows.shape[1:]), _NAMES[rows.dtype]
        writer = RowWriter(lease.path, dtype=dtype, shape=shape)
        return lease, self._stack.enter_context(writer)


class _AbandonedError(Exception):
    """Makes the folder drop a file that it lent."""


class StoredVideo:
    """What is known of a video, with one or more tensors of as many rows.

    spans: the samples that each row is of. dtype: what rows stand for.

    Raises:
        FileNotFoundError: an entry is not there. FormatError: one is damaged.
    """

    def __init__(
        self, folder: BoundedFolder, keys: Sequence[str], path: str | PathLike[str]
    ) -> None:
        self._readers: list[RowReader] = []
        try:
            for key in keys:
                self._readers.append(RowReader(folder.used(key)))
            self._understand(self._readers[0].details, os.fspath(path))
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise FormatError(f"an entry of {folder.folder} is damaged: {error}") from error
        except BaseException:
            self.close()
            raise

    def rows(self, batch_size: int) -> Iterator[tuple[list[Tensor], tuple[tuple[int, int], ...]]]:
        """So many rows of every tensor at a time, and their spans; once."""
        try:
            for start in range(0, len(self.spans), batch_size):
                spans = self.spans[start : start + batch_size]
                yield [_tensor(r, start, start + len(spans)) for r in self._readers], spans
        finally:
            self.close()

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers:
            reader.close()

    def _understand(self, details: dict[str, Any], path: str) -> None:
        self.info = VideoInfo(path=path, **details["info"])
        self.times_s: tuple[float, ...] = tuple(details["times_s"])
        self.warnings: tuple[str, ...] = tuple(details["warnings"])
        self.dtype = _DTYPES[details["dtype"]]
        stops = list(accumulate(details["counts"]))
        self.spans = tuple(zip([0, *stops[:-1]], [stop - 1 for stop in stops], strict=True))
        if any(reader.count != len(self.spans) for reader in self._readers):
            raise ValueError("its parts do not fit together")


def _tensor(reader: RowReader, start: int, stop: int) -> Tensor:
    data = torch.frombuffer(reader.rows(start, stop), dtype=_DTYPES[reader.dtype])
    return data.reshape(stop - start, *reader.shape)
