"""A video as the model reads it: facts about the file, and a generator of feature chunks.

Where chunks come from does not matter to their consumer: they are encoded while the file is
decoded, read from the cache (`feature_cache`), or held in memory (`encoded_video`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from vidground.features.frame_encoding import PatchChunk, TokenChunk
from vidground.storage.files import file_sha256
from vidground.video.info import VideoInfo
from vidground.video.isolated_reader import IsolatedReader
from vidground.video.reader import VideoReader

Reader = VideoReader | IsolatedReader
AnyChunk = PatchChunk | TokenChunk

Chunk = TypeVar("Chunk", PatchChunk, TokenChunk, AnyChunk)
Chunk_co = TypeVar("Chunk_co", bound=AnyChunk, covariant=True)


class VideoFacts(Protocol):
    """What is known about a video; complete only once all of its chunks have been consumed."""

    @property
    def info(self) -> VideoInfo:
        """Measurements of the file, with the hash of its content."""

    @property
    def times_s(self) -> tuple[float, ...]:
        """Times of the T samples, in seconds; complete from the start."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the file."""


@dataclass(frozen=True)
class VideoFeatures(Generic[Chunk_co]):
    """Features of a video.

    Attributes:
        facts: read them again after the last chunk: damage is found while the file is decoded.
        chunks: features of all frames in order, computed or read as they are consumed; once.
    """

    facts: VideoFacts
    chunks: Iterator[Chunk_co]


class FileFacts:
    """Facts about a file that is being decoded; see `VideoFacts`.

    Args:
        reader: decodes the file.
        sha256: hash of the file's content; None to compute it when it is needed.
    """

    def __init__(self, reader: Reader, sha256: str | None = None) -> None:
        self._reader = reader
        self._sha256 = sha256
        self.times_s: tuple[float, ...] = tuple(reader.times_s.tolist())

    @property
    def info(self) -> VideoInfo:
        """See `VideoFacts.info`."""
        if self._sha256 is None:
            self._sha256 = file_sha256(self._reader.info.path)
        return replace(self._reader.info, sha256=self._sha256)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `VideoFacts.warnings`."""
        return self._reader.warnings


def counted(chunks: Iterable[Chunk], on_samples: Callable[[int], None]) -> Iterator[Chunk]:
    """Yield chunks; after each, call `on_samples` with the number of samples done so far."""
    for chunk in chunks:
        yield chunk
        on_samples(chunk.spans[-1][1] + 1)
