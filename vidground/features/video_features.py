"""A video as the model meets it: chunks of patch features or of frame tokens, and what is known.

Chunks come from the file here; `feature_cache` has them from earlier runs. Knows no answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from vidground.features.frame_encoding import (
    PatchChunk,
    PixelEncoder,
    TokenChunk,
    compress_chunks,
    encode_runs,
)
from vidground.features.windows import Window
from vidground.storage.files import file_sha256
from vidground.video.info import VideoInfo
from vidground.video.isolated_reader import IsolatedReader
from vidground.video.reader import VideoReader

Reader = VideoReader | IsolatedReader
OnSamples = Callable[[int], None]
"""Told after each chunk how many samples are done so far."""


class KnownVideo(Protocol):
    """What is known of a video; of its damage only when all chunks were taken.

    times_s: the T sampled instants.
    """

    @property
    def info(self) -> VideoInfo:
        """What was measured, with the hash of the file's content."""

    @property
    def times_s(self) -> tuple[float, ...]:
        """The sampled instants, in seconds."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of the file."""


class VideoPatches(KnownVideo, Protocol):
    """A video as patch features."""

    def patches(self, on_samples: OnSamples, /) -> Iterator[PatchChunk]:
        """All frames in order, once."""


class VideoTokens(KnownVideo, Protocol):
    """A video as frame tokens."""

    def tokens(
        self,
        questions: Sequence[Sequence[int]],
        windows: Sequence[Window],
        on_samples: OnSamples,
        /,
    ) -> Iterator[TokenChunk]:
        """The frames that some window shows, in order, read with each question; once."""


class DecodedVideo:
    """A file that is decoded and encoded now. sha256: its hash, if that is known already."""

    def __init__(
        self, reader: Reader, *, vision: PixelEncoder, batch_size: int, sha256: str | None = None
    ) -> None:
        self._reader = reader
        self._vision = vision
        self._batch_size = batch_size
        self._sha256 = sha256
        self.times_s: tuple[float, ...] = tuple(reader.times_s.tolist())

    @property
    def info(self) -> VideoInfo:
        """See `KnownVideo.info`."""
        if self._sha256 is None:
            self._sha256 = file_sha256(self._reader.info.path)
        return replace(self._reader.info, sha256=self._sha256)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `KnownVideo.warnings`."""
        return self._reader.warnings

    def patches(self, on_samples: OnSamples) -> Iterator[PatchChunk]:
        """See `VideoPatches.patches`."""
        runs = self._reader.runs()
        return encode_runs(self._vision, runs, batch_size=self._batch_size, on_samples=on_samples)


class OfVideo:
    """Another view of a video: what is known of it stays what the video knows at the time."""

    def __init__(self, video: KnownVideo) -> None:
        self._known = video
        self.times_s = video.times_s

    @property
    def info(self) -> VideoInfo:
        """See `KnownVideo.info`."""
        return self._known.info

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `KnownVideo.warnings`."""
        return self._known.warnings


class CompressedVideo(OfVideo):
    """Frame tokens of a video whose patch features are there."""

    def __init__(self, video: VideoPatches, vision: PixelEncoder) -> None:
        super().__init__(video)
        self._video = video
        self._vision = vision

    def tokens(
        self, questions: Sequence[Sequence[int]], windows: Sequence[Window], on_samples: OnSamples
    ) -> Iterator[TokenChunk]:
        """See `VideoTokens.tokens`."""
        chunks = self._video.patches(on_samples)
        return compress_chunks(self._vision, chunks, questions, windows)
