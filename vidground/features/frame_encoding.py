"""Encode video frames to frame tokens, window by window, in memory independent of the duration.

A frame that several samples show is encoded once. Knows neither prompts nor answers.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vidground.devices import to_device
from vidground.features.windows import Window
from vidground.memory import BatchSize, in_parts
from vidground.video.preprocessing import normalize
from vidground.video.reader import FrameRun


class FrameEncoder(Protocol):
    """Encodes frames and compresses their features: `D2VLM`, or a replacement of its vision part.

    A replacement whose features may be cached also has `content`, a str that names its weights.
    """

    @property
    def device(self) -> torch.device:
        """Device of the computation."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the computation."""

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Compute patch features.

        Args:
            pixel_values: normalised frames (N, 3, S, S), of this device and dtype.

        Returns:
            (N, patches, width).
        """

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Compute one token per frame and question.

        Args:
            patches: (N, patches, width).
            questions: token ids of Q questions, of the Q-Former's tokenizer.

        Returns:
            (N, Q, H).
        """


class PixelEncoder(Protocol):
    """Encodes pixels and compresses their features: a `FittingEncoder`, or a client of the model
    thread."""

    @property
    def device(self) -> torch.device:
        """Device of the computation."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Compute patch features.

        Args:
            pixels: (N, 3, S, S) uint8 RGB in main memory.

        Returns:
            (N, patches, width).
        """

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """See `FrameEncoder.compress_each`; the patch features may be on any device."""


class FittingEncoder:
    """A `PixelEncoder` that halves its batch size when memory runs out.

    Pixels are copied to the device in 8 bits, a quarter of their size in float32, and normalised
    there.

    Args:
        vision: encodes the frames.
        size: maximum number of frames that are passed to `vision` at once.
    """

    def __init__(self, vision: FrameEncoder, size: BatchSize) -> None:
        self._vision = vision
        self._size = size

    @property
    def device(self) -> torch.device:
        """See `FrameEncoder.device`."""
        return self._vision.device

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """See `PixelEncoder.encode_pixels`."""
        vision = self._vision

        def encoded(part: Tensor) -> Tensor:
            return vision.encode_frames(normalize(part, dtype=vision.dtype, device=vision.device))

        patches: Tensor = in_parts(encoded, pixels, self._size)
        return patches

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """See `PixelEncoder.compress_each`."""

        def compressed(part: Tensor) -> Tensor:
            return self._vision.compress_each(to_device(part, self.device), questions)

        tokens: Tensor = in_parts(compressed, patches, self._size)
        return tokens


@dataclass(frozen=True)
class PatchChunk:
    """Patch features of N consecutive frames.

    Attributes:
        patches: (N, patches, width).
        spans: first and last sample that show each frame.
    """

    patches: Tensor
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TokenChunk:
    """Frame tokens of N consecutive frames.

    Attributes:
        tokens: (N, H) for each question.
        spans: first and last sample that show each frame.
    """

    tokens: tuple[Tensor, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WindowTokens:
    """The frame tokens of one window.

    Attributes:
        window: a window of T samples.
        tokens: (T, H) for each question.
    """

    window: Window
    tokens: tuple[Tensor, ...]


@torch.inference_mode()
def encode_runs(
    encoder: PixelEncoder, runs: Iterable[FrameRun], *, batch_size: int
) -> Iterator[PatchChunk]:
    """Encode frames as they are decoded.

    Args:
        encoder: encodes the frames.
        runs: sampled frames, in order.
        batch_size: number of frames of a chunk; the last one may have fewer.
    """
    waiting: list[FrameRun] = []
    for run in runs:
        waiting.append(run)
        if len(waiting) == batch_size:
            yield _encode(encoder, waiting)
            waiting = []
    if waiting:
        yield _encode(encoder, waiting)


def _encode(encoder: PixelEncoder, runs: Sequence[FrameRun]) -> PatchChunk:
    pixels = stack_pixels([run.pixels for run in runs], encoder.device)  # (N, 3, S, S)
    return PatchChunk(encoder.encode_pixels(pixels), tuple((run.first, run.last) for run in runs))


def stack_pixels(pictures: Sequence[Tensor], device: torch.device) -> Tensor:
    """Stack pictures in main memory.

    Args:
        pictures: N of (3, S, S) uint8.
        device: where they are copied next. For a GPU the memory is pinned, so that the copy does
            not wait for the GPU's work.

    Returns:
        (N, 3, S, S) uint8.
    """
    first = pictures[0]
    shape, pinned = (len(pictures), *first.shape), device.type == "cuda"
    return torch.stack(list(pictures), out=torch.empty(shape, dtype=first.dtype, pin_memory=pinned))


@torch.inference_mode()
def compress_chunks(
    encoder: PixelEncoder,
    chunks: Iterable[PatchChunk | TokenChunk],
    questions: Sequence[Sequence[int]],
    windows: Sequence[Window] | None = None,
) -> Iterator[TokenChunk]:
    """Compress patch features with each question.

    Args:
        encoder: compresses the features.
        chunks: all samples of a video, in order. Chunks that are compressed already are passed on.
        questions: token ids of the Q-Former's tokenizer.
        windows: in order, at least one; frames before the first and after the last are left out.
            None for all frames.
    """
    for chunk in chunks:
        if windows and not _is_within(chunk, windows[0].start, windows[-1].stop):
            continue
        if isinstance(chunk, PatchChunk):
            tokens = encoder.compress_each(chunk.patches, questions)  # (N, Q, H)
            chunk = TokenChunk(tokens.unbind(1), chunk.spans)  # Q of (N, H)
        yield chunk


def _is_within(chunk: PatchChunk | TokenChunk, start: int, stop: int) -> bool:
    return chunk.spans[-1][1] >= start and chunk.spans[0][0] < stop


@torch.inference_mode()
def window_tokens(
    chunks: Iterable[TokenChunk], windows: Sequence[Window]
) -> Iterator[WindowTokens]:
    """Yield the tokens of every window as soon as it is complete.

    Args:
        chunks: frame tokens of all samples in the windows, in order.
        windows: sorted by start and by stop; see `windows.plan_windows`.
    """
    held: deque[tuple[int, int, list[Tensor]]] = deque()  # first and last sample, tokens
    remaining = deque(windows)
    for chunk in chunks:
        for row, (first, last) in enumerate(chunk.spans):
            held.append((first, last, [tokens[row] for tokens in chunk.tokens]))
            while remaining and last >= remaining[0].stop - 1:
                window = remaining.popleft()
                yield WindowTokens(window, _cut(held, window, len(chunk.tokens)))
                start = remaining[0].start if remaining else last + 1
                while held and held[0][1] < start:
                    held.popleft()


def _cut(
    held: Iterable[tuple[int, int, list[Tensor]]], window: Window, questions: int
) -> tuple[Tensor, ...]:
    """Return the tokens of a window's samples; each frame's token repeats for its samples."""
    shown = [
        (min(last + 1, window.stop) - max(first, window.start), tokens)
        for first, last, tokens in held
        if first < window.stop and last >= window.start
    ]
    counts = torch.tensor([count for count, _ in shown])
    return tuple(
        torch.stack([tokens[q] for _, tokens in shown]).repeat_interleave(
            counts.to(shown[0][1][q].device), dim=0
        )
        for q in range(questions)
    )
