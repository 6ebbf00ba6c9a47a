"""Compare video decoding on a GPU with decoding on the CPU: time, and equality of the frames.

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
from vidground.video.reader import VideoReader

File = str | PathLike[str]


@dataclass(frozen=True)
class Decoded:
    """All videos decoded once.

    Attributes:
        seconds: wall-clock time.
        digests: for each video, a SHA-256 per sampled frame.
        left_to_cpu: number of videos that were decoded on the CPU because the GPU could not.
    """

    seconds: float
    digests: tuple[tuple[bytes, ...], ...]
    left_to_cpu: int


@dataclass(frozen=True)
class DecodingComparison:
    """Videos decoded on a GPU and on the CPU.

    Attributes:
        decode_on: the GPU, as asked for.
        readers: number of files decoded at once on the GPU.
        cpu_readers: number of files decoded at once on the CPU.
        seconds: wall-clock time of all videos on the GPU.
        cpu_seconds: wall-clock time of all videos on the CPU.
        frames: sampled frames of all videos.
        equal: number of frames with the same pixels in both.
        left_to_cpu: number of videos that were decoded on the CPU both times.
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
    """Decode all videos on a GPU, then on the CPU.

    Args:
        paths: of the videos.
        fps: see `VideoReader`.
        image_size: see `VideoReader`.
        decode_on: "auto", "cuda" or "cuda:N".
        readers: number of files decoded at once on the GPU.
        cpu_readers: number of files decoded at once on the CPU.

    Raises:
        VideoError: a file cannot be read, or `decode_on` names a GPU that cannot decode it.
    """
    decode = partial(decode_all, paths, fps=fps, image_size=image_size)
    gpu, cpu = decode(decode_on=decode_on, readers=readers), decode(readers=cpu_readers)
    pairs = [
        pair
        for video in zip(gpu.digests, cpu.digests, strict=True)
        for pair in zip(*video, strict=True)
    ]
    return DecodingComparison(
        decode_on=decode_on,
        readers=readers,
        cpu_readers=cpu_readers,
        seconds=gpu.seconds,
        cpu_seconds=cpu.seconds,
        frames=len(pairs),
        equal=sum(a == b for a, b in pairs),
        left_to_cpu=gpu.left_to_cpu,
    )


def decode_all(
    paths: Sequence[File], *, fps: float, image_size: int, decode_on: str = CPU, readers: int
) -> Decoded:
    """Decode and sample all videos; see `compare_decoding`."""

    def decode(path: File) -> tuple[tuple[bytes, ...], bool]:
        reader = VideoReader(path, fps=fps, image_size=image_size, decode_on=decode_on)
        digests = tuple(
            hashlib.sha256(run.pixels.numpy().tobytes()).digest()
            for run in reader.runs()
            for _ in range(run.first, run.last + 1)
        )
        return digests, reader.left_to_cpu

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
        seconds, tuple(digests for digests, _ in videos), sum(left for _, left in videos)
    )
