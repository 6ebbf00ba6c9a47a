"""Where training's frames come from: videos, sampled once and kept on disk.

`PixelFrames` gives pixels. `PatchFrames` gives what the vision encoder makes of them, for a
training that leaves the encoder as it is; nearly all work on a video is then done once.
`TokenFrames` gives what the compressor makes of those with a question, if that does not learn
either. All are called with a path and a question, and can be shared by the workers of a data
loader. Knows no annotations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from os import fspath
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from vidground.errors import InputError
from vidground.features.frame_encoding import encode_runs
from vidground.model.d2vlm import D2VLM
from vidground.storage.files import file_sha256, printable, require_regular_file
from vidground.training.data.tensor_cache import TensorCache
from vidground.video.reader import FrameRun, VideoReader

DEFAULT_CACHE_BYTES = 64 << 30
"""64 GiB: 7,600 minutes of video as pixels at 224, or 1,500 as patch features of the full model."""

_VERSION = 1
"""Raised whenever the same video gives other frames than before."""


class PixelFrames:
    """Sampled frames of videos as uint8 pixels: `frames(path)` is (T, 3, S, S).

    fps: samples per second of video. image_size: S, in pixels. cache: None decodes every time.
    """

    def __init__(self, *, fps: float, image_size: int, cache: TensorCache | None = None) -> None:
        self.fps = fps
        self.image_size = image_size
        self._cache = cache
        self._contents = _Contents()

    def __call__(self, path: str | Path, _question: Sequence[int] = ()) -> Tensor:
        """The frames of a video, one for each sample, whatever the question.

        Raises:
            VideoError: the file is missing or no video that can be read.
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
        """Names the content of the file with everything that its frames depend on."""
        return _digest("pixels", self._contents.sha256(path), self.fps, self.image_size)

    def runs(self, path: str | Path) -> Iterable[FrameRun]:
        """The frames as they are decoded, each with the samples that show it."""
        return VideoReader(path, fps=self.fps, image_size=self.image_size).runs()

    def _decode(self, path: str | Path) -> dict[str, Tensor]:
        runs = list(self.runs(path))
        return {
            "frames": torch.stack([run.pixels for run in runs]),
            "counts": torch.tensor([run.last - run.first + 1 for run in runs]),
        }


class PatchFrames:
    """Patch features of sampled frames: `frames(path)` is (T, patches, width), model's type.

    The model's vision encoder must stay as it is for as long as this object is used. Features are
    kept in 16 bits: bfloat16 for a bfloat16 model, else float16.

    Args:
        batch_size: frames given to the encoder at once.

    Raises:
        InputError: the vision encoder is set to learn.
    """

    def __init__(
        self, model: D2VLM, *, fps: float, cache: TensorCache, batch_size: int = 16
    ) -> None:
        if any(parameter.requires_grad for parameter in model.vision.parameters()):
            raise InputError(
                "the vision encoder is set to learn, so its features would change; freeze it "
                "(requires_grad_(False)) or train on PixelFrames"
            )
        self._model = model
        self._pixels = PixelFrames(fps=fps, image_size=model.config.image_size)
        self._cache = cache
        self._batch_size = batch_size
        self._stored_dtype = _stored_dtype(model)
        self._encoder = _fingerprint(model.vision, model.dtype)

    def __call__(self, path: str | Path, _question: Sequence[int] = ()) -> Tensor:
        """The features of a video's samples, whatever the question; encoded and stored if they
        are not in the cache.

        Raises:
            VideoError: the file is missing or no video that can be read.
            InputError: they would have to be encoded by a worker of a data loader.
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
        """Names the content of the file with everything that its features depend on."""
        return _digest("patches", self._pixels.key(path), self._encoder)

    def prepare(
        self,
        paths: Sequence[str | Path],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode all videos that the cache does not hold, so that workers only need to read.

        on_progress: called with the number of videos done and of all videos, after each.
        """
        for done, path in enumerate(paths, start=1):
            self(path)
            if on_progress is not None:
                on_progress(done, len(paths))

    def _encode(self, path: str | Path) -> dict[str, Tensor]:
        runs = self._pixels.runs(path)
        chunks = list(encode_runs(self._model, runs, batch_size=self._batch_size, on_samples=_done))
        features = torch.cat([chunk.patches.to("cpu", self._stored_dtype) for chunk in chunks])
        if not bool(features.isfinite().all()):
            raise InputError(
                f"patch features of {printable(path)} do not fit into {self._stored_dtype}; load "
                "the model in bfloat16, or train on PixelFrames"
            )
        spans = [span for chunk in chunks for span in chunk.spans]
        return {
            "frames": features,
            "counts": torch.tensor([last - first + 1 for first, last in spans]),
        }


class TokenFrames:
    """Frame tokens of sampled frames: `frames(path, question)` is (T, H), in the model's type.

    The vision encoder and the compressor must stay as they are for as long as this object is used.
    Tokens are kept in 16 bits, as the patch features are that they are made of.

    Args:
        batch_size: frames given to the encoder and to the compressor at once.

    Raises:
        InputError: the vision encoder or the compressor is set to learn.
    """

    def __init__(
        self, model: D2VLM, *, fps: float, cache: TensorCache, batch_size: int = 64
    ) -> None:
        if any(parameter.requires_grad for parameter in model.compressor.parameters()):
            raise InputError(
                "the compressor is set to learn, so its tokens would change; freeze it "
                "(requires_grad_(False)) or train on PatchFrames"
            )
        self._model = model
        self._patches = PatchFrames(model, fps=fps, cache=cache)
        self._cache = cache
        self._batch_size = batch_size
        self._compressor = _fingerprint(model.compressor, model.dtype)

    def __call__(self, path: str | Path, question: Sequence[int]) -> Tensor:
        """The tokens of a video's samples; made and stored if they are not in the cache.

        Args:
            question: in the ids of the Q-Former's tokenizer.

        Raises:
            VideoError: the file is missing or no video that can be read.
            InputError: patch features would have to be encoded by a worker of a data loader.
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
        """Make the tokens of videos with their questions, as far as the cache does not hold them.

        on_progress: called with the number of pairs done and of all pairs, after each.
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
    """Hashes of files, computed anew only when a file's size or time of change differ."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def sha256(self, path: str | Path) -> str:
        status = require_regular_file(path)
        file = (fspath(path), status.st_size, status.st_mtime_ns)
        if file not in self._known:
            self._known[file] = file_sha256(path)
        return self._known[file]


def _done(_samples: int) -> None:
    """Nobody asks how far a single video is."""


def _shown(stored: dict[str, Tensor]) -> Tensor:
    """One row for each sample; a frame that several samples show is stored once."""
    frames, counts = stored["frames"], stored["counts"]
    return frames if bool((counts == 1).all()) else frames.repeat_interleave(counts, dim=0)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((_VERSION, *parts)).encode()).hexdigest()


def _stored_dtype(model: D2VLM) -> torch.dtype:
    return torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16


def _fingerprint(part: nn.Module, dtype: torch.dtype) -> str:
    """Names a part of a model: its weights and the type that it computes in."""
    digest = hashlib.sha256(str(dtype).encode())
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
