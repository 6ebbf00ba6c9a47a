"""A video file as a stream of sampled pictures with their true times.

`frame_sampler` finds and decodes the frames; here they become small square pictures
(`preprocessing`).
Knows nothing of the model.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidground.settings import CPU
from vidground.video.frame_sampler import FrameSampler
from vidground.video.info import VideoInfo
from vidground.video.pixels import DecodedFrame
from vidground.video.preprocessing import resize_and_crop


@dataclass(frozen=True)
class FrameRun:
    """One frame and the samples that show it.

    Attributes:
        pixels: (3, S, S) uint8 RGB, as shown, resized and cropped to a square.
        first, last: indices into `VideoReader.times_s`, inclusive.
    """

    pixels: torch.Tensor
    first: int
    last: int


class VideoReader:
    """Pictures of one video file at a fixed rate.

    Opening lists the file's packets, so that times and duration are measured, and decodes its
    first frame. Takes the memory of a few decoded frames, and some tens of bytes per packet.

    Args:
        path: of the file.
        fps: samples per second of video, above 0.
        image_size: side S of the pictures in pixels.
        decode_on: where frames are decoded; see `settings.CPU`.
        choice: stream and raw_fps, see `SamplingSettings`.

    Attributes:
        times_s: (T,) sampled instants in seconds, strictly rising; 0 is the start of the file as
            players count it.

    Raises:
        VideoError: the file is missing, not a video, encrypted, or holds no frame that can be
            decoded.
    """

    times_s: npt.NDArray[np.float64]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float,
        image_size: int,
        decode_on: str = CPU,
        **choice: Any,
    ) -> None:
        self._sampler = FrameSampler(path, fps=fps, decode_on=decode_on, **choice)
        self._image_size = image_size
        self.times_s = self._sampler.times_s

    @property
    def info(self) -> VideoInfo:
        """What was measured; `damaged_packets` counts those met so far in decoding."""
        return self._sampler.info

    @property
    def left_to_cpu(self) -> bool:
        """Whether the CPU decoded the video because the GPU could not."""
        return self._sampler.left_to_cpu

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the file, as found so far: damage, unusual times, …"""
        return self._sampler.warnings

    def runs(self) -> Iterator[FrameRun]:
        """Decode and yield the sampled frames in order; together they cover 0..T-1 once.

        Decodes only what is needed where the file's times can be trusted, else everything. A
        frame that cannot be decoded is replaced by the one before it, which a player would
        continue to show, or by the first one if there is none before. Every call decodes again.

        Raises:
            VideoError: the file has changed and no longer gives a frame; or the required GPU
                cannot decode it.
        """
        frame: DecodedFrame | None = None
        for shown in self._sampler.frames():
            if shown.frame is not frame:
                frame = shown.frame
                picture = resize_and_crop(
                    frame.rgb(),
                    self._image_size,
                    pixel_aspect=float(frame.pixel_aspect),
                    orientation=frame.orientation,
                )
            yield FrameRun(picture, shown.first, shown.last)
