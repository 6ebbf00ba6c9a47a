"""What the vision part made of videos, kept on disk: encoded once, asked often.

Entries go by the content of a file and by everything that features depend on. All that is known
of a video is kept with them, so that one that is found is neither decoded nor opened, and its
answers are those of the first time. Knows no answers.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from vidground.devices import to_device
from vidground.errors import FormatError, InputError
from vidground.features.cache_entry import Entry, StoredVideo
from vidground.features.frame_encoding import FrameEncoder, PatchChunk, PixelEncoder, TokenChunk
from vidground.features.rounding import pack, unpack
from vidground.features.video_features import (
    CompressedVideo,
    DecodedVideo,
    KnownVideo,
    OfVideo,
    OnSamples,
    VideoPatches,
    VideoTokens,
)
from vidground.features.windows import Window
from vidground.model.d2vlm import D2VLM
from vidground.settings import CacheSettings
from vidground.storage.bounded_folder import BoundedFolder
from vidground.storage.files import FileState, file_sha256, file_state

Decode = Callable[[str], DecodedVideo]
"""Opens the file, whose hash is given, to be decoded."""

_VERSION = 3
"""Raised whenever the same video gives other features, tokens or facts than before."""

_GIBIBYTE = 1 << 30
_NAME_LENGTH = 200
_SAMPLED = 16 << 10

_log = logging.getLogger(__name__)


class FeatureCache:
    """Features and tokens that one model makes with its settings, in a folder shared with others.

    Trouble with the folder (a full disk, no permission) is logged once; from then on videos are
    encoded as without it, and rounded all the same.

    Args:
        vision: what encodes frames: `model`, or what tells by `content` what it computes. Its
            weights must stay as they are from now on.
        made_with: whatever else features depend on.

    Raises:
        InputError: it is not known what `vision` computes.
    """

    def __init__(
        self,
        settings: CacheSettings,
        *,
        vision: FrameEncoder,
        model: D2VLM,
        made_with: Mapping[str, str | int | float],
    ) -> None:
        self.bits = settings.bits
        self._name = str(model.name_or_path) or "a model without a name"
        encoder, compressor = _identities(vision, model)
        made_with = {**made_with, "encoder": encoder, "bits": settings.bits}
        self._features = _digest(_VERSION, sorted(made_with.items()))
        self._compressor = compressor
        self._told = False
        self._folder: BoundedFolder | None = None
        if settings.max_gib > 0:
            size = max(1, int(settings.max_gib * _GIBIBYTE))
            try:
                self._folder = BoundedFolder(settings.place, max_bytes=size)
            except FormatError as error:
                self._give_up(error)

    def patches(
        self,
        path: str | PathLike[str],
        decode: Decode,
        *,
        vision: PixelEncoder,
        batch_size: int,
    ) -> VideoPatches:
        """A video as patch features, which are kept if they were not.

        Args:
            vision: what computes as the cache's own does.
            batch_size: frames of a chunk that comes from the cache.

        Raises:
            VideoError: the file cannot be read, or is no video.
        """
        file = _File.now(path)
        key = self._key(file)
        stored = self._find(file, [key])
        if stored is not None:
            return _StoredPatches(stored, vision, batch_size, self.bits)
        video = decode(file.sha256)
        return _KeptPatches(video, self.bits, lambda: self._entry(file, key, "features", video))

    def tokens(
        self,
        path: str | PathLike[str],
        decode: Decode,
        questions: Sequence[Sequence[int]],
        *,
        vision: PixelEncoder,
        batch_size: int,
    ) -> VideoTokens:
        """A video as frame tokens of these questions; the tokens are kept, features are not.

        Args:
            vision, batch_size: as for `patches`.

        Raises:
            VideoError: the file cannot be read, or is no video.
        """
        file = _File.now(path)
        features = self._key(file)
        keys = [_digest(features, self._compressor, list(question)) for question in questions]
        stored = self._find(file, keys)
        if stored is not None:
            return _StoredTokens(stored, vision, batch_size)
        patches: VideoPatches
        stored = self._find(file, [features])
        if stored is not None:
            patches = _StoredPatches(stored, vision, batch_size, self.bits)
        else:
            patches = _KeptPatches(decode(file.sha256), self.bits, None)
        video = CompressedVideo(patches, vision)
        return _KeptTokens(video, lambda: [self._entry(file, key, "tokens", video) for key in keys])

    def _key(self, file: _File) -> str:
        # The end of its name may decide how a file is read.
        return _digest(file.sha256, Path(file.path).suffix.lower(), self._features)

    def _find(self, file: _File, keys: Sequence[str]) -> StoredVideo | None:
        folder = self._folder  # another thread may give it up meanwhile
        if folder is None:
            return None
        try:
            try:
                return StoredVideo(folder, keys, file.path)
            except FormatError:  # cut off by a crash of the machine, for instance
                for key in keys:
                    folder.path(key).unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._give_up(error)
        return None

    def _entry(self, file: _File, key: str, kind: str, video: KnownVideo) -> Entry:
        return Entry(
            self._folder,
            key,
            most=min(len(video.times_s), video.info.frames),
            samples=len(video.times_s),
            metadata={"model": self._name[:_NAME_LENGTH], "kind": kind},
            is_wanted=file.is_unchanged,
            on_error=self._give_up,
        )

    def _give_up(self, error: Exception) -> None:
        if self._folder is not None or not self._told:
            _log.warning("nothing more is kept of videos for later questions: %s", error)
        self._folder, self._told = None, True


def part_fingerprint(part: nn.Module) -> str:
    """Names the weights of a part of a model, in a moment.

    Of a large tensor, some thousands of values and the sum of all its bits, as integers, are
    taken: training changes weights all over, and a sum of integers is the same in any order.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        values = tensor.detach().reshape(-1)
        if values.storage_offset() or not values.is_contiguous():
            values = values.clone()  # bytes are read as longer words below
        sampled = values[:: max(1, len(values) // _SAMPLED)].contiguous().cpu()
        digest.update(sampled.view(torch.uint8).numpy())
        whole = values.view(torch.uint8)
        words = whole[: len(whole) // 8 * 8].view(torch.int64)
        digest.update(str(int(words.sum())).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when its content was hashed."""

    path: str
    sha256: str
    state: FileState | None

    @classmethod
    def now(cls, path: str | PathLike[str]) -> _File:
        state = file_state(path)
        return cls(os.fspath(path), file_sha256(path), state)

    def is_unchanged(self) -> bool:
        return file_state(self.path) == self.state


class _KeptPatches(OfVideo):
    """Features of a file that is decoded now, rounded, and kept if there is an entry to make."""

    def __init__(
        self, video: DecodedVideo, bits: int, make_entry: Callable[[], Entry] | None
    ) -> None:
        super().__init__(video)
        self._video = video
        self._bits = bits
        self._make_entry = make_entry

    @torch.inference_mode()
    def patches(self, on_samples: OnSamples) -> Iterator[PatchChunk]:
        spans: list[tuple[int, int]] = []
        dtype = torch.float32
        with ExitStack() as stack:
            entry = None
            if self._make_entry is not None:
                entry = stack.enter_context(closing(self._make_entry()))
            for chunk in self._video.patches(on_samples):
                rows, dtype = pack(chunk.patches, self._bits), chunk.patches.dtype
                if entry is not None:
                    entry.append(rows)
                    spans += chunk.spans
                yield PatchChunk(unpack(rows, self._bits, dtype), chunk.spans)
            if entry is not None:
                entry.keep(self._video, spans, dtype)


class _StoredPatches:
    """Features out of the cache."""

    def __init__(
        self, stored: StoredVideo, vision: PixelEncoder, batch_size: int, bits: int
    ) -> None:
        self._stored = stored
        self._vision = vision
        self._batch_size = batch_size
        self._bits = bits
        self.info, self.times_s, self.warnings = stored.info, stored.times_s, stored.warnings

    @torch.inference_mode()
    def patches(self, on_samples: OnSamples) -> Iterator[PatchChunk]:
        for (rows,), spans in self._stored.rows(self._batch_size):
            on_device = to_device(rows, self._vision.device)
            yield PatchChunk(unpack(on_device, self._bits, self._stored.dtype), spans)
            on_samples(spans[-1][1] + 1)


class _KeptTokens(OfVideo):
    """Frame tokens that are made now, and kept."""

    def __init__(self, video: CompressedVideo, make_entries: Callable[[], list[Entry]]) -> None:
        super().__init__(video)
        self._video = video
        self._make_entries = make_entries

    def tokens(
        self, questions: Sequence[Sequence[int]], windows: Sequence[Window], on_samples: OnSamples
    ) -> Iterator[TokenChunk]:
        spans: list[tuple[int, int]] = []
        dtype = torch.float32
        with ExitStack() as stack:
            entries = [stack.enter_context(closing(entry)) for entry in self._make_entries()]
            for chunk in self._video.tokens(questions, windows, on_samples):
                for entry, tokens in zip(entries, chunk.tokens, strict=True):
                    entry.append(tokens)
                    dtype = tokens.dtype
                spans += chunk.spans
                yield chunk
            for entry in entries:
                entry.keep(self._video, spans, dtype)


class _StoredTokens:
    """Frame tokens out of the cache."""

    def __init__(self, stored: StoredVideo, vision: PixelEncoder, batch_size: int) -> None:
        self._stored = stored
        self._vision = vision
        self._batch_size = batch_size
        self.info, self.times_s, self.warnings = stored.info, stored.times_s, stored.warnings

    @torch.inference_mode()
    def tokens(
        self, _questions: Sequence[Sequence[int]], _windows: Sequence[Window], on_samples: OnSamples
    ) -> Iterator[TokenChunk]:
        # The questions are those that were looked up, and the windows need no less than all frames.
        for tensors, spans in self._stored.rows(self._batch_size):
            on_device = tuple(to_device(rows, self._vision.device) for rows in tensors)
            yield TokenChunk(on_device, spans)
            on_samples(spans[-1][1] + 1)


def _identities(vision: FrameEncoder, model: D2VLM) -> tuple[str, str]:
    """What names the encoder of frames, and the compressor."""
    parts = part_fingerprint(model.vision), part_fingerprint(model.compressor)
    if vision is model:
        return parts
    content = getattr(vision, "content", None)
    if not isinstance(content, str):
        raise InputError(
            f"it is not known what {type(vision).__name__} computes, so its features cannot be "
            "kept; give it an attribute `content`, a str that names its weights, or use cache=None"
        )
    return f"{content} {parts[0]}", f"{content} {parts[1]}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
