"""Decoding alone, in one place and in another: what each takes, and whether the pictures are equal.

Decodes in this process, several files at once. Knows no model.
"""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import PathLike

import torch

from vidground.settings import CPU
from vidground.video.frame_sampler import LEFT_TO_CPU
from vidground.video.reader import VideoReader

File = str | PathLike[str]


@dataclass(frozen=True)
class Decoded:
    """All videos decoded once.

    seconds: by the clock. pictures: a digest per sampled frame, of each video. left_to_cpu: so many
    videos were decoded there though a card was to be used.
    """

    seconds: float
    pictures: tuple[tuple[bytes, ...], ...]
    left_to_cpu: int


@dataclass(frozen=True)
class DecodingComparison:
    """Videos decoded on a card and on the CPU.

    readers, cpu_readers: files decoded at once. seconds, cpu_seconds: by the clock, for all of
    them. frames: sampled, of all videos; equal: of these, those with the same pixels in both.
    left_to_cpu: videos that were decoded on the CPU both times.
    """

    decode_on: str
    readers: int
    cpu_readers: int
    seconds: float
    cpu_seconds: float
    frames: int
    equal: int
    left_to_cpu: int


def compare_decoding(
    paths: Sequence[File],
    *,
    fps: float,
    image_size: int,
    decode_on: str,
    readers: int,
    cpu_readers: int,
) -> DecodingComparison:
    """Decode all videos on a card, then on the CPU.

    Args:
        fps, image_size: as of `VideoReader`. decode_on: "auto", "cuda" or "cuda:N". readers,
            cpu_readers: files decoded at once on the card, and on the CPU.

    Raises:
        VideoError: a file cannot be read, or not on the card that is demanded.
    """
    decode = partial(decode_all, paths, fps=fps, image_size=image_size)
    there, here = decode(decode_on=decode_on, readers=readers), decode(readers=cpu_readers)
    pairs = [
        pair
        for both in zip(there.pictures, here.pictures, strict=True)
        for pair in zip(*both, strict=True)
    ]
    return DecodingComparison(
        decode_on=decode_on,
        readers=readers,
        cpu_readers=cpu_readers,
        seconds=there.seconds,
        cpu_seconds=here.seconds,
        frames=len(pairs),
        equal=sum(a == b for a, b in pairs),
        left_to_cpu=there.left_to_cpu,
    )


def decode_all(
    paths: Sequence[File], *, fps: float, image_size: int, decode_on: str = CPU, readers: int
) -> Decoded:
    """Decode and sample all videos, nothing else; see `compare_decoding`."""

    def decode(path: File) -> tuple[tuple[bytes, ...], bool]:
        reader = VideoReader(path, fps=fps, image_size=image_size, decode_on=decode_on)
        pictures = tuple(
            hashlib.sha256(run.pixels.numpy().tobytes()).digest()
            for run in reader.runs()
            for _ in range(run.first, run.last + 1)
        )
        return pictures, any(warning.startswith(LEFT_TO_CPU) for warning in reader.warnings)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        with ThreadPoolExecutor(readers) as pool:
            videos = list(pool.map(decode, paths))
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - start
    return Decoded(
        seconds, tuple(pictures for pictures, _ in videos), sum(left for _, left in videos)
    )
