"""Chunks of a video's features, and the facts that are complete after the last one."""

from pathlib import Path

import torch
from torch import Tensor

from tests.helpers.video_files import make_video
from vidground.features.frame_encoding import PatchChunk, TokenChunk, compress_chunks
from vidground.features.video_features import FileFacts, counted
from vidground.features.windows import Window
from vidground.storage.files import file_sha256
from vidground.video.reader import VideoReader


class Sum:
    """Compresses a frame to the sum of its features, plus the first token of the question."""

    device = torch.device("cpu")

    def encode_pixels(self, _: Tensor) -> Tensor:
        raise AssertionError("nothing to encode")

    def compress_each(self, patches: Tensor, questions: list[list[int]]) -> Tensor:
        sums = patches.sum((1, 2))
        return torch.stack([(sums + question[0])[:, None] for question in questions], dim=1)


def patches(first: int, last: int) -> PatchChunk:
    spans = tuple((n, n) for n in range(first, last + 1))
    return PatchChunk(torch.arange(first, last + 1.0)[:, None, None], spans)


def test_samples_are_counted_once_a_chunk_was_consumed() -> None:
    chunks = [patches(0, 2), patches(3, 3)]
    heard: list[int] = []
    progress = [(chunk.spans[0][0], list(heard)) for chunk in counted(chunks, heard.append)]
    assert progress == [(0, []), (3, [3])]
    assert heard == [3, 4]


def test_patches_are_compressed_and_tokens_passed_on() -> None:
    done = TokenChunk((torch.tensor([[8.0]]),), ((2, 2),))
    first, second = compress_chunks(Sum(), [patches(0, 1), done], [[10]])
    assert first.tokens[0].tolist() == [[10.0], [11.0]]
    assert first.spans == ((0, 0), (1, 1))
    assert second is done


def test_chunks_that_no_window_shows_are_left_out() -> None:
    chunks = [patches(0, 1), patches(2, 3), patches(4, 5)]
    windows = [Window(2, 3, 2, 3), Window(3, 4, 3, 4)]
    (chunk,) = compress_chunks(Sum(), chunks, [[0], [5]], windows)
    assert [tokens.flatten().tolist() for tokens in chunk.tokens] == [[2, 3], [7, 8]]


def test_facts_of_a_file_follow_its_reader(tmp_path: Path) -> None:
    """Damage is found while frames are decoded, so that facts read before know nothing of it."""
    path = make_video(tmp_path / "film.mp4", frames=100, gop=10)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 7):
        content[place] ^= 0x5A
    path.write_bytes(content)
    reader = VideoReader(path, fps=5, image_size=32)
    facts = FileFacts(reader)
    before = facts.info.damaged_packets
    assert facts.info.sha256 == file_sha256(path)
    assert len(facts.times_s) == 20
    for _ in reader.runs():
        pass
    assert facts.info.damaged_packets > before == 0
    assert any("damaged packets" in warning for warning in facts.warnings)
    assert FileFacts(reader, "known").info.sha256 == "known"
