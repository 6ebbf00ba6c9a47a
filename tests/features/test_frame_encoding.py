"""Frames to the tokens of windows, with a stand-in for the compressor that counts its work."""

from types import SimpleNamespace

import torch
from torch import Tensor

from vidground.features.frame_encoding import (
    PatchChunk,
    WindowTokens,
    compress_chunks,
    window_tokens,
)
from vidground.features.windows import Window, plan_windows


class CountingModel(SimpleNamespace):
    """Compresses a patch to itself plus each question, and remembers what it was given."""

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
