"""On-disk cache of encoded videos.

Entries are found by the content of a file and everything that features depend on. They hold all
facts about the video, so that a cached video is not opened, and its answers equal the first ones.
Knows no answers.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import torch

from vidground.devices import to_device
from vidground.errors import FormatError, InputError
from vidground.features.cache_entry import Entry, StoredVideo
from vidground.features.frame_encoding import (
    FrameEncoder,
    PatchChunk,
    PixelEncoder,
    TokenChunk,
    compress_chunks,
)
from vidground.features.rounding import pack, unpack
from vidground.features.video_features import VideoFacts, VideoFeatures
from vidground.model.d2vlm import D2VLM
from vidground.model.weight_digests import quick_digest
from vidground.settings import CacheSettings
from vidground.storage.bounded_folder import BoundedFolder
from vidground.storage.files import FileState, file_sha256, file_state

Decode = Callable[[str], VideoFeatures[PatchChunk]]
"""Opens a file, given the hash of its content, to be decoded and encoded."""

_VERSION = 3
"""Raised by every change to the features, tokens or facts of the same video."""

_GIBIBYTE = 1 << 30
_NAME_LENGTH = 200

_log = logging.getLogger(__name__)


class FeatureCache:
    """Patch features and frame tokens of one model and its settings, in a shared folder.

    An error of the folder (a full disk, no permission) is logged once; from then on features are
    rounded but no longer cached.

    Args:
        settings: folder, size and rounding.
        vision: encodes frames: `model`, or an object whose attribute `content` names its weights.
            The weights must not change while this object is used.
        model: compresses patch features, and names the entries.
        made_with: everything else that features depend on.

    Raises:
        InputError: it is unknown what `vision` computes.
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
        self._has_failed = False
        self._folder: BoundedFolder | None = None
        if settings.max_gib > 0:
            size = max(1, int(settings.max_gib * _GIBIBYTE))
            try:
                self._folder = BoundedFolder(settings.place, max_bytes=size)
            except FormatError as error:
                self._give_up(error)

    def patches(
        self, path: str | PathLike[str], decode: Decode, *, device: torch.device, batch_size: int
    ) -> VideoFeatures[PatchChunk]:
        """Return a video's patch features from the cache, or encode and cache them.

        Args:
            path: of the video.
            decode: encodes the file if it is not cached.
            device: that cached features are copied to.
            batch_size: number of frames in a chunk from the cache.

        Raises:
            VideoError: the file cannot be read, or is not a video.
        """
        return self._patches(_File.now(path), decode, device, batch_size, keep=True)

    def tokens(
        self,
        path: str | PathLike[str],
        decode: Decode,
        questions: Sequence[Sequence[int]],
        *,
        encoder: PixelEncoder,
        batch_size: int,
    ) -> VideoFeatures[TokenChunk]:
        """Return a video's frame tokens from the cache, or compute and cache them.

        Patch features that are not cached already are not cached either.

        Args:
            path: of the video.
            decode: encodes the file if it is not cached.
            questions: token ids of the Q-Former's tokenizer.
            encoder: compresses patch features.
            batch_size: number of frames in a chunk from the cache.

        Raises:
            VideoError: the file cannot be read, or is not a video.
        """
        file = _File.now(path)
        keys = [_digest(self._key(file), self._compressor, list(q)) for q in questions]
        stored = self._find(file, keys)
        if stored is not None:
            return VideoFeatures(stored, _read_tokens(stored, encoder.device, batch_size))
        patches = self._patches(file, decode, encoder.device, batch_size, keep=False)
        facts, chunks = patches.facts, compress_chunks(encoder, patches.chunks, questions)
        make_entries = partial(self._entries, file, keys, facts)
        return VideoFeatures(facts, _write_tokens(VideoFeatures(facts, chunks), make_entries))

    def _patches(
        self, file: _File, decode: Decode, device: torch.device, batch_size: int, *, keep: bool
    ) -> VideoFeatures[PatchChunk]:
        key = self._key(file)
        stored = self._find(file, [key])
        if stored is not None:
            return VideoFeatures(stored, _read_patches(stored, self.bits, device, batch_size))
        video = decode(file.sha256)
        make_entry = partial(self._entry, file, key, "features", video.facts) if keep else None
        return VideoFeatures(video.facts, _round_patches(video, self.bits, make_entry))

    def _entries(self, file: _File, keys: Sequence[str], facts: VideoFacts) -> list[Entry]:
        return [self._entry(file, key, "tokens", facts) for key in keys]

    def _key(self, file: _File) -> str:
        # The suffix may decide how a file is read.
        return _digest(file.sha256, Path(file.path).suffix.lower(), self._features)

    def _find(self, file: _File, keys: Sequence[str]) -> StoredVideo | None:
        folder = self._folder  # another thread may set it to None meanwhile
        if folder is None:
            return None
        try:
            try:
                return StoredVideo(folder, keys, file.path)
            except FormatError:  # truncated by a crash of the machine, for example
                for key in keys:
                    folder.path(key).unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._give_up(error)
        return None

    def _entry(self, file: _File, key: str, kind: str, facts: VideoFacts) -> Entry:
        return Entry(
            self._folder,
            key,
            max_rows=min(len(facts.times_s), facts.info.frames),
            samples=len(facts.times_s),
            metadata={"model": self._name[:_NAME_LENGTH], "kind": kind},
            is_wanted=file.is_unchanged,
            on_error=self._give_up,
        )

    def _give_up(self, error: Exception) -> None:
        if self._folder is not None or not self._has_failed:
            _log.warning("encoded videos are no longer cached: %s", error)
        self._folder, self._has_failed = None, True


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


@torch.inference_mode()
def _round_patches(
    video: VideoFeatures[PatchChunk], bits: int, make_entry: Callable[[], Entry] | None
) -> Iterator[PatchChunk]:
    """Yield rounded patch features, and write them to an entry if there is one to make."""
    spans: list[tuple[int, int]] = []
    dtype = torch.float32
    with ExitStack() as stack:
        entry = None if make_entry is None else stack.enter_context(closing(make_entry()))
        for chunk in video.chunks:
            rows, dtype = pack(chunk.patches, bits), chunk.patches.dtype
            if entry is not None:
                entry.append(rows)
                spans += chunk.spans
            yield PatchChunk(unpack(rows, bits, dtype), chunk.spans)
        if entry is not None:
            entry.keep(video.facts, spans, dtype)


@torch.inference_mode()
def _read_patches(
    stored: StoredVideo, bits: int, device: torch.device, batch_size: int
) -> Iterator[PatchChunk]:
    """Yield the patch features of an entry."""
    for (rows,), spans in stored.rows(batch_size):
        yield PatchChunk(unpack(to_device(rows, device), bits, stored.dtype), spans)


def _write_tokens(
    video: VideoFeatures[TokenChunk], make_entries: Callable[[], list[Entry]]
) -> Iterator[TokenChunk]:
    """Yield frame tokens, and write those of each question to its entry."""
    spans: list[tuple[int, int]] = []
    dtype = torch.float32
    with ExitStack() as stack:
        entries = [stack.enter_context(closing(entry)) for entry in make_entries()]
        for chunk in video.chunks:
            for entry, tokens in zip(entries, chunk.tokens, strict=True):
                entry.append(tokens)
                dtype = tokens.dtype
            spans += chunk.spans
            yield chunk
        for entry in entries:
            entry.keep(video.facts, spans, dtype)


@torch.inference_mode()
def _read_tokens(
    stored: StoredVideo, device: torch.device, batch_size: int
) -> Iterator[TokenChunk]:
    """Yield the frame tokens of several entries, one per question."""
    for tensors, spans in stored.rows(batch_size):
        yield TokenChunk(tuple(to_device(rows, device) for rows in tensors), spans)


def _identities(vision: FrameEncoder, model: D2VLM) -> tuple[str, str]:
    """Return the fingerprints of the vision encoder and of the compressor."""
    parts = quick_digest(model.vision), quick_digest(model.compressor)
    if vision is model:
        return parts
    content = getattr(vision, "content", None)
    if not isinstance(content, str):
        raise InputError(
            f"it is unknown what {type(vision).__name__} computes, so its features cannot be "
            "cached; give it an attribute `content`, a str that names its weights, or use "
            "cache=None"
        )
    return f"{content} {parts[0]}", f"{content} {parts[1]}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
