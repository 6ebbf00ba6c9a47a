"""Make thumbnails of moments of a video, as JPEG.

Frames are chosen as in the rest of vidground (`vidground.video.frame_sampler`), and decoded in a
separate process, since videos are untrusted. Imports no torch.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vidground.settings import IsolationSettings
from vidground.video.decoder_process import DecoderProcess
from vidground.video.frame_sampler import FrameSampler
from vidground.video.ipc import Message
from vidground.video.orientation import Orientation
from vidground.video.pixels import encode_jpeg
from vidground.video.video_file import UNWATCHED, Watch

THUMBNAIL_SIZE = (160, 90)
"""Maximum width and height in pixels."""

_OPENER = f"{__name__}:MomentSampler"


class Thumbnailer:
    """Makes thumbnails of one video after the other; a context manager that ends its process.

    The process starts with the first video, and is restarted after a video that makes it crash,
    hang or exceed its memory.

    Args:
        isolation: limits on decoding.
    """

    def __init__(self, isolation: IsolationSettings = IsolationSettings()) -> None:
        self._isolation = isolation
        self._process: DecoderProcess | None = None

    def __enter__(self) -> "Thumbnailer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.end()

    def make(
        self,
        path: str | os.PathLike[str],
        times_s: Sequence[float],
        *,
        size: tuple[int, int] = THUMBNAIL_SIZE,
    ) -> list[bytes]:
        """Return a JPEG of the frame shown at each time, in the order of `times_s`.

        Only the packets that are needed are decoded, if the file's timestamps can be trusted.

        Args:
            path: of the video.
            times_s: in seconds from the file's start; after the end, the last frame is shown.
            size: maximum width and height in pixels. Pictures keep their aspect ratio and are
                rotated as a player rotates them.

        Raises:
            VideoError: the file is missing, is not a video, has no frame, or made its decoder
                crash, hang or exceed its memory.
            InternalError: there is a bug in vidground.
            VidgroundError: the process cannot be started, or was killed.
            OSError: the disk failed.
        """
        if not times_s:
            return []
        order = np.argsort(times_s, kind="stable")
        process = self._ready()
        process.open(path, moments_s=[float(times_s[index]) for index in order])
        process.ask("decode", {})
        pictures: dict[int, bytes] = {}
        picture = b""
        while (answer := process.answer(path)).kind != "end":
            if answer.kind == "frame":  # otherwise the previous picture is repeated
                picture = _picture(answer, *size)
            shown = range(answer.values["first"], answer.values["last"] + 1)
            pictures |= {int(order[index]): picture for index in shown}
        return [pictures[index] for index in range(len(times_s))]

    def _ready(self) -> DecoderProcess:
        process = self._process
        if process is not None and (process.is_busy or not process.is_fit):
            process.end()
            process = None
        self._process = process or DecoderProcess(self._isolation, _OPENER)
        return self._process


class MomentSampler(FrameSampler):
    """A video sampled at given times, in ascending order, instead of a fixed rate."""

    def __init__(
        self, path: str | os.PathLike[str], *, moments_s: Sequence[float], watch: Watch = UNWATCHED
    ) -> None:
        self._moments_s = np.asarray(moments_s, dtype=np.float64)
        super().__init__(path, fps=1.0, watch=watch)

    def _sample(self, fps: float) -> None:  # noqa: ARG002 - the times are given
        timeline = self._timeline
        # Half a tick, since times may have been rounded.
        ticks = self._moments_s / float(timeline.time_base) + 0.5
        frames = np.searchsorted(timeline.ticks, ticks, side="right") - 1
        self.times_s, self._frames = self._moments_s, np.maximum(frames, 0).astype(np.int64)


def _picture(frame: Message, max_width: int, max_height: int) -> bytes:
    values: dict[str, Any] = frame.values
    orientation = Orientation(**values["orientation"])
    pixels: npt.NDArray[np.uint8] = frame.block.reshape(values["height"], values["width"], 3)
    height, width = values["height"], max(1, round(values["width"] * values["pixel_aspect"]))
    if orientation.transpose:
        height, width, pixels = width, height, pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if orientation.mirror_y else 1, :: -1 if orientation.mirror_x else 1]
    scale = min(max_width / width, max_height / height, 1.0)
    return encode_jpeg(
        np.ascontiguousarray(pixels),
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
    )
