"""Entries of the feature cache: rows of a tensor, and the facts about their video.

`Entry` writes one while the video is encoded; `StoredVideo` reads it. Knows no keys.
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
"""Space reserved in an entry for the facts about the video."""


class Entry:
    """An entry that is being written.

    Args:
        folder: of the cache; None writes nothing.
        key: of the entry.
        max_rows: maximum number of rows.
        samples: number of samples of the video.
        metadata: shown by `vidground cache info`.
        is_wanted: called at the end; returns whether the file is unchanged since it was hashed.
        on_error: called with errors of the file system, which are not raised.
    """

    def __init__(
        self,
        folder: BoundedFolder | None,
        key: str,
        *,
        max_rows: int,
        samples: int,
        metadata: dict[str, str],
        is_wanted: Callable[[], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._folder = folder
        self._key = key
        self._max_rows = max_rows
        self._details_bytes = _DETAILS_BYTES + _DETAILS_BYTES_PER_SAMPLE * samples
        self._metadata = metadata
        self._is_wanted = is_wanted
        self._on_error = on_error
        self._stack = ExitStack()
        self._open: tuple[Lease, RowWriter] | None = None
        self._wanted = folder is not None

    def append(self, rows: Tensor) -> None:
        """Add rows, (N, ...), of a dtype that can be stored."""
        if not self._wanted:
            return
        try:
            lease, writer = self._open = self._open or self._begin(rows)
            if writer.count + len(rows) > self._max_rows:
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
        """Complete the entry.

        Args:
            video: facts about the video, complete.
            spans: first and last sample of each row.
            dtype: of the features before they were rounded.
        """
        if self._open is None or not self._wanted or not self._is_wanted():
            return
        info = asdict(video.info)
        del info["path"]  # another file may have the same content
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
        """Remove the entry unless it is complete."""
        self._wanted = False
        with suppress(_AbandonedError, OSError, FormatError), self._stack:
            raise _AbandonedError

    def _begin(self, rows: Tensor) -> tuple[Lease, RowWriter]:
        assert self._folder is not None
        size = HEADER_BYTES + self._max_rows * rows[0].nbytes + self._details_bytes
        lease = self._stack.enter_context(self._folder.writing(self._key, size, flush=False))
        if lease is None:  # larger than the cache may be
            raise _AbandonedError
        shape, dtype = tuple(rows.shape[1:]), _NAMES[rows.dtype]
        writer = RowWriter(lease.path, dtype=dtype, shape=shape)
        return lease, self._stack.enter_context(writer)


class _AbandonedError(Exception):
    """Makes the folder remove a file that is being written."""


class StoredVideo:
    """One or more entries on one video, opened; they have the same number of rows.

    Args:
        folder: of the cache.
        keys: of the entries.
        path: of the video.

    Attributes:
        info: measurements of the file.
        times_s: times of the samples, in seconds.
        warnings: what a user should know about the file.
        spans: first and last sample of each row.
        dtype: of the features before they were rounded.

    Raises:
        FileNotFoundError: an entry does not exist.
        FormatError: an entry is damaged.
    """

    def __init__(
        self, folder: BoundedFolder, keys: Sequence[str], path: str | PathLike[str]
    ) -> None:
        self._readers: list[RowReader] = []
        try:
            for key in keys:
                self._readers.append(RowReader(folder.used(key)))
            self._parse(self._readers[0].details, os.fspath(path))
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise FormatError(f"an entry of {folder.folder} is damaged: {error}") from error
        except BaseException:
            self.close()
            raise

    def rows(self, batch_size: int) -> Iterator[tuple[list[Tensor], tuple[tuple[int, int], ...]]]:
        """Yield rows of every entry and their spans, up to `batch_size` at a time; once."""
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

    def _parse(self, details: dict[str, Any], path: str) -> None:
        self.info = VideoInfo(path=path, **details["info"])
        self.times_s: tuple[float, ...] = tuple(details["times_s"])
        self.warnings: tuple[str, ...] = tuple(details["warnings"])
        self.dtype = _DTYPES[details["dtype"]]
        stops = list(accumulate(details["counts"]))
        self.spans = tuple(zip([0, *stops[:-1]], [stop - 1 for stop in stops], strict=True))
        if any(reader.count != len(self.spans) for reader in self._readers):
            raise ValueError("its rows and the details do not match")


def _tensor(reader: RowReader, start: int, stop: int) -> Tensor:
    data = torch.frombuffer(reader.rows(start, stop), dtype=_DTYPES[reader.dtype])
    return data.reshape(stop - start, *reader.shape)
