"""Where an engine's video features come from: decoded and encoded now, or the feature cache.

Knows neither questions nor windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from typing import Any

from vidground.features.feature_cache import FeatureCache
from vidground.features.frame_encoding import FrameEncoder, PatchChunk, PixelEncoder, encode_runs
from vidground.features.video_features import AnyChunk, FileFacts, Reader, VideoFeatures
from vidground.inference.provenance import runtime_of
from vidground.model.d2vlm import D2VLM
from vidground.settings import TORCH, CacheSettings, SamplingSettings
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.reader import VideoReader


class VideoSource:
    """Opens videos and returns their features, for one model and one set of settings.

    Args:
        model: reads the features.
        vision: encodes frames.
        sampling: which frames are sampled; windows do not matter here.
        decoders: processes that decode videos; None to decode in this one.
        decode_on: device that decodes videos in this process; see `settings.CPU`.
        cache: settings of the feature cache; None neither caches nor rounds features.

    Raises:
        InputError: it is unknown what `vision` computes, so its features cannot be cached.
    """

    def __init__(
        self,
        model: D2VLM,
        vision: FrameEncoder,
        *,
        sampling: SamplingSettings,
        decoders: DecoderPool | None,
        decode_on: str,
        cache: CacheSettings | None,
    ) -> None:
        self._model = model
        self._vision = vision
        self._reading: dict[str, Any] = {"fps": sampling.fps, **sampling.choice}
        self._decoders = decoders
        self._decode_on = decode_on
        self._cache = None if cache is None else self._open_cache(cache)

    @property
    def bits(self) -> int | None:
        """Bits that features are rounded to; None if they are not rounded."""
        return None if self._cache is None else self._cache.bits

    @property
    def vision_name(self) -> str:
        """What encodes frames, as results name it."""
        return TORCH if self._vision is self._model else str(self._vision)

    def patches(
        self, path: str | PathLike[str], encoder: PixelEncoder, chunk_size: int
    ) -> VideoFeatures[PatchChunk]:
        """Return the patch features of a video.

        Args:
            path: of the video.
            encoder: encodes frames that are not cached.
            chunk_size: number of frames in a chunk.

        Raises:
            VideoError: the file cannot be read.
        """
        if self._cache is None:
            return self._decode(path, encoder, chunk_size)
        decode = partial(self._decode, path, encoder, chunk_size)
        return self._cache.patches(path, decode, device=encoder.device, batch_size=chunk_size)

    def tokens(
        self,
        path: str | PathLike[str],
        questions: Sequence[Sequence[int]],
        encoder: PixelEncoder,
        chunk_size: int,
    ) -> VideoFeatures[AnyChunk]:
        """Return the frame tokens of questions and cache these; without a cache, patch features.

        Args:
            path: of the video.
            questions: token ids of the Q-Former's tokenizer.
            encoder: encodes and compresses frames that are not cached.
            chunk_size: number of frames in a chunk.

        Raises:
            VideoError: the file cannot be read.
        """
        if self._cache is None:
            return self._decode(path, encoder, chunk_size)
        decode = partial(self._decode, path, encoder, chunk_size)
        return self._cache.tokens(path, decode, questions, encoder=encoder, batch_size=chunk_size)

    def open(self, path: str | PathLike[str]) -> Reader:
        """Open a video for decoding.

        Raises:
            VideoError: the file cannot be read.
        """
        reading = {**self._reading, "image_size": self._model.config.image_size}
        if self._decoders is not None:
            return IsolatedReader(self._decoders, path, **reading)
        return VideoReader(path, decode_on=self._decode_on, **reading)

    def _decode(
        self,
        path: str | PathLike[str],
        encoder: PixelEncoder,
        chunk_size: int,
        sha256: str | None = None,
    ) -> VideoFeatures[PatchChunk]:
        reader = self.open(path)
        chunks = encode_runs(encoder, reader.runs(), batch_size=chunk_size)
        return VideoFeatures(FileFacts(reader, sha256), chunks)

    def _open_cache(self, settings: CacheSettings) -> FeatureCache:
        # Among the weights only those of the vision part matter; the cache fingerprints them.
        runtime = runtime_of(self._model, vision=self.vision_name, bits=None)
        return FeatureCache(
            settings,
            vision=self._vision,
            model=self._model,
            made_with={
                **runtime,
                **self._reading,
                "image_size": self._model.config.image_size,
                "dtypes": f"{self._vision.dtype} {self._model.dtype}",
            },
        )
