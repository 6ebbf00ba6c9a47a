"""Sources of frames for training: videos, sampled once and cached on disk.

`PixelFrames` returns pixels. `PatchFrames` returns patch features of a frozen vision encoder, so
that nearly all work on a video is done once. `TokenFrames` returns frame tokens of a frozen
compressor for a question. All are called with a path and a question, and can be shared by the
workers of a data loader. Knows no annotations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from os import fspath
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vidground.errors import InputError
from vidground.features.frame_encoding import FittingEncoder, encode_runs
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.model.weight_digests import full_digest
from vidground.storage.files import file_sha256, printable, require_regular_file
from vidground.training.data.tensor_cache import TensorCache
from vidground.video.reader import FrameRun, VideoReader

DEFAULT_CACHE_BYTES = 64 << 30
"""64 GiB: 7,600 minutes of video as pixels at 224, or 1,500 as patch features of the full model."""

_VERSION = 2
"""Incremented whenever the same video gives other frames than before."""


class PixelFrames:
    """Sampled frames of videos as uint8 pixels: `frames(path)` is (T, 3, S, S).

    Args:
        fps: samples per second of video.
        image_size: S, in pixels.
        cache: None decodes every time.
    """

    def __init__(self, *, fps: float, image_size: int, cache: TensorCache | None = None) -> None:
        self.fps = fps
        self.image_size = image_size
        self._cache = cache
        self._contents = _Contents()

    def __call__(self, path: str | Path, _question: Sequence[int] = ()) -> Tensor:
        """Return the frames of a video, one for each sample; the question does not matter.

        Raises:
            VideoError: the file is missing or cannot be read as a video.
        """
        if self._cache is None:
            return _shown(self._decode(path))
        key = self.key(path)
        stored = self._cache.load(key)
        if stored is None:
            stored = self._decode(path)
            self._cache.store(key, stored)
        return _shown(stored)

    def key(self, path: str | Path) -> str:
        """Return a key of the file's content and everything else that its frames depend on."""
        return _digest("pixels", self._contents.sha256(path), self.fps, self.image_size)

    def runs(self, path: str | Path) -> Iterable[FrameRun]:
        """Return the frames as they are decoded, each with the samples that show it."""
        return VideoReader(path, fps=self.fps, image_size=self.image_size).runs()

    def _decode(self, path: str | Path) -> dict[str, Tensor]:
        runs = list(self.runs(path))
        return {
            "frames": torch.stack([run.pixels for run in runs]),
            "counts": torch.tensor([run.last - run.first + 1 for run in runs]),
        }


class PatchFrames:
    """Patch features of sampled frames: `frames(path)` is (T, patches, width), in the model's type.

    The weights of the vision encoder must not change while this object is used. Features are stored
    in 16 bits: bfloat16 for a bfloat16 model, else float16.

    Args:
        model: with a frozen vision encoder.
        fps: samples per second of video.
        cache: of the features.
        batch_size: frames encoded at once.

    Raises:
        InputError: the vision encoder has trainable parameters.
    """

    def __init__(
        self, model: D2VLM, *, fps: float, cache: TensorCache, batch_size: int = 16
    ) -> None:
        if any(parameter.requires_grad for parameter in model.vision.parameters()):
            raise InputError(
                "the vision encoder is trainable, so its features would change; freeze it "
                "(requires_grad_(False)) or train on PixelFrames"
            )
        self._model = model
        self._pixels = PixelFrames(fps=fps, image_size=model.config.image_size)
        self._cache = cache
        self._batch_size = batch_size
        self._stored_dtype = _stored_dtype(model)
        self._encoder = full_digest(model.vision, model.dtype)

    def __call__(self, path: str | Path, _question: Sequence[int] = ()) -> Tensor:
        """Return the features of a video's samples; encode and store them if they are not cached.

        The question does not matter.

        Raises:
            VideoError: the file is missing or cannot be read as a video.
            InputError: the caller is a worker of a data loader, and they are not cached.
        """
        key = self.key(path)
        stored = self._cache.load(key)
        if stored is None:
            if get_worker_info() is not None:
                raise InputError(
                    f"patch features of {printable(path)} are not in the cache, and the workers "
                    "of a data loader have no model; call prepare() with all videos first, and "
                    f"give the cache more than its {self._cache.max_bytes:,} bytes if it was"
                )
            stored = self._encode(path)
            self._cache.store(key, stored)
        return _shown(stored).to(self._model.dtype)

    def key(self, path: str | Path) -> str:
        """Return a key of the file's content and everything else that its features depend on."""
        return _digest("patches", self._pixels.key(path), self._encoder)

    def prepare(
        self,
        paths: Sequence[str | Path],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode all videos that are not cached, so that workers only need to read.

        Args:
            paths: of the videos.
            on_progress: called with the number of finished videos and of all, after each.
        """
        for done, path in enumerate(paths, start=1):
            self(path)
            if on_progress is not None:
                on_progress(done, len(paths))

    def _encode(self, path: str | Path) -> dict[str, Tensor]:
        runs = self._pixels.runs(path)
        encoder = FittingEncoder(self._model, BatchSize(self._batch_size))
        chunks = list(encode_runs(encoder, runs, batch_size=self._batch_size))
        features = torch.cat([chunk.patches.to("cpu", self._stored_dtype) for chunk in chunks])
        if not bool(features.isfinite().all()):
            raise InputError(
                f"patch features of {printable(path)} overflow {self._stored_dtype}; load "
                "the model in bfloat16, or train on PixelFrames"
            )
        spans = [span for chunk in chunks for span in chunk.spans]
        return {
            "frames": features,
            "counts": torch.tensor([last - first + 1 for first, last in spans]),
        }


class TokenFrames:
    """Frame tokens of sampled frames: `frames(path, question)` is (T, H), in the model's type.

    The weights of the vision encoder and the compressor must not change while this object is used.
    Tokens are stored in 16 bits, like the patch features that they are computed from.

    Args:
        model: with a frozen vision encoder and a frozen compressor.
        fps: samples per second of video.
        cache: of features and tokens.
        batch_size: frames compressed at once.

    Raises:
        InputError: the vision encoder or the compressor has trainable parameters.
    """

    def __init__(
        self, model: D2VLM, *, fps: float, cache: TensorCache, batch_size: int = 64
    ) -> None:
        if any(parameter.requires_grad for parameter in model.compressor.parameters()):
            raise InputError(
                "the compressor is trainable, so its tokens would change; freeze it "
                "(requires_grad_(False)) or train on PatchFrames"
            )
        self._model = model
        self._patches = PatchFrames(model, fps=fps, cache=cache)
        self._cache = cache
        self._batch_size = batch_size
        self._compressor = full_digest(model.compressor, model.dtype)

    def __call__(self, path: str | Path, question: Sequence[int]) -> Tensor:
        """Return the tokens of a video's samples; compute and store them if they are not cached.

        Args:
            path: of the video.
            question: in the ids of the Q-Former's tokenizer.

        Raises:
            VideoError: the file is missing or cannot be read as a video.
            InputError: the caller is a worker of a data loader, and patch features are not cached.
        """
        key = _digest("tokens", self._patches.key(path), self._compressor, tuple(question))
        stored = self._cache.load(key)
        if stored is None:
            stored = {"tokens": self._compress(self._patches(path), question)}
            self._cache.store(key, stored)
        return stored["tokens"].to(self._model.dtype)

    def prepare(
        self,
        asked: Sequence[tuple[Path, Sequence[int]]],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Compute the tokens of videos with their questions that are not cached.

        Args:
            asked: paths with questions.
            on_progress: called with the number of finished pairs and of all, after each.
        """
        for done, (path, question) in enumerate(asked, start=1):
            self(path, question)
            if on_progress is not None:
                on_progress(done, len(asked))

    @torch.inference_mode()
    def _compress(self, patches: Tensor, question: Sequence[int]) -> Tensor:
        device = self._model.device
        ids = torch.tensor([list(question)], device=device)
        chunks = torch.split(patches, self._batch_size)
        tokens = torch.cat([self._model.compress(chunk.to(device), ids) for chunk in chunks])
        return tokens.to("cpu", _stored_dtype(self._model))


class _Contents:
    """Hashes of files, computed again only if a file's size or time of change differs."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def sha256(self, path: str | Path) -> str:
        status = require_regular_file(path)
        file = (fspath(path), status.st_size, status.st_mtime_ns)
        if file not in self._known:
            self._known[file] = file_sha256(path)
        return self._known[file]


def _shown(stored: dict[str, Tensor]) -> Tensor:
    """Return one row for each sample; a frame that several samples show is stored once."""
    frames, counts = stored["frames"], stored["counts"]
    return frames if bool((counts == 1).all()) else frames.repeat_interleave(counts, dim=0)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((_VERSION, *parts)).encode()).hexdigest()


def _stored_dtype(model: D2VLM) -> torch.dtype:
    return torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16
