"""From frames to the tokens of windows, with an imitated compressor that counts its work."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vidground.features.frame_encoding import (
    FittingEncoder,
    PatchChunk,
    WindowTokens,
    compress_chunks,
    stack_pixels,
    window_tokens,
)
from vidground.features.windows import Window, plan_windows
from vidground.memory import BatchSize
from vidground.video.preprocessing import normalize


class CountingModel(SimpleNamespace):
    """Compresses a patch to itself plus each question, and records its inputs."""

    device = torch.device("cpu")

    def compress_each(self, patches: Tensor, questions: list[list[int]]) -> Tensor:
        self.seen += patches[:, 0, 0].tolist()
        return torch.stack([patches[:, 0] + sum(question) for question in questions], dim=1)


# Frames 0 … 5; frame 1 is shown for the samples 1 to 3, every other frame for one.
SPANS = ((0, 0), (1, 3), (4, 4), (5, 5), (6, 6), (7, 7))
SHOWN = [0, 1, 1, 1, 2, 3, 4, 5]


def chunks(size: int) -> list[PatchChunk]:
    patches = torch.arange(6.0).reshape(6, 1, 1)
    starts = range(0, 6, size)
    return [PatchChunk(patches[i : i + size], SPANS[i : i + size]) for i in starts]


def answered(
    model: CountingModel,
    patches: list[PatchChunk],
    questions: list[list[int]],
    windows: list[Window],
) -> list[WindowTokens]:
    return list(window_tokens(compress_chunks(model, patches, questions, windows), windows))


def test_windows_get_the_tokens_of_their_samples_whatever_the_chunks() -> None:
    windows = plan_windows(8, length=3, overlap=0.34)
    for size in (1, 2, 6):
        model = CountingModel(seen=[])
        found = answered(model, chunks(size), [[10], [20]], windows)
        assert [item.window for item in found] == windows
        for item in found:
            shown = torch.tensor(SHOWN[item.window.start : item.window.stop], dtype=torch.float)
            torch.testing.assert_close(item.tokens[0][:, 0], shown + 10)
            torch.testing.assert_close(item.tokens[1][:, 0], shown + 20)
        assert model.seen == [0, 1, 2, 3, 4, 5]  # once, for both questions


def test_frames_that_no_window_shows_are_not_compressed() -> None:
    model = CountingModel(seen=[])
    (found,) = answered(model, chunks(1), [[0]], [Window(2, 5, 2, 5)])
    torch.testing.assert_close(found.tokens[0][:, 0], torch.tensor([1.0, 1.0, 2.0]))
    assert model.seen == [1, 2]


class Mirror:
    """Returns frames unchanged, in 16 bits, and records the batch sizes."""

    device, dtype = torch.device("cpu"), torch.float16

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        self.sizes.append(len(pixel_values))
        return pixel_values

    def compress_each(self, patches: Tensor, _: list[list[int]]) -> Tensor:
        return patches


def test_pixels_are_normalised_batch_by_batch_in_the_dtype_of_the_encoder() -> None:
    pixels = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    mirror = Mirror()
    seen = FittingEncoder(mirror, BatchSize(2)).encode_pixels(pixels)
    assert mirror.sizes == [2, 2, 1]
    assert seen.dtype == torch.float16
    assert torch.equal(seen, normalize(pixels, dtype=torch.float16, device="cpu"))


def test_pixels_for_a_gpu_are_stacked_in_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (7, 200)]
    pinned: list[bool] = []
    empty = torch.empty

    def noting(shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        pinned.append(pin_memory)  # which without a card cannot be done
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", noting)
    for place in ("cuda:1", "cpu"):
        stacked = stack_pixels(pictures, torch.device(place))
        assert torch.equal(stacked, torch.stack(pictures))
    assert pinned == [True, False]
