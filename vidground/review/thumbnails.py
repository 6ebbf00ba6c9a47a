"""Small pictures of moments of a video, as JPEG.

Frames are those that the rest of vidground sees at the same times
(`vidground.video.frame_sampler`), decoded in a process of its own: videos of an archive may be
anybody's. Knows nothing of what the pictures are for; imports no torch.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vidground.settings import IsolationSettings
from vidground.video.decoder_process import DecoderProcess
from vidground.video.frame_sampler import Footage
from vidground.video.ipc import Message
from vidground.video.orientation import Orientation
from vidground.video.pixels import encode_jpeg
from vidground.video.video_file import UNWATCHED, Watch

THUMBNAIL_SIZE = (160, 90)
"""Most pixels in width and height."""

_OPENER = f"{__name__}:MomentFootage"


class Thumbnailer:
    """Makes pictures of one video after the other. As a context it ends its process at last.

    isolation: limits on decoding. The process starts with the first video, and again behind one
    that made it crash, hang or ask for too much memory.
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
        """Return a JPEG of what is shown at each of `times_s`, in their order.

        Only the packets that are needed are decoded, where the file's times can be trusted. A
        time past the end shows the last frame.

        times_s: seconds from the first frame. size: most pixels in width and height; the pictures
        keep their shape and are turned as a player turns them.

        Raises:
            VideoError: the file is missing, no video, gives no frame, or took its decoder along.
            InternalError: a mistake of the program. VidgroundError: the process cannot be started,
                or was killed. OSError: the disk failed.
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
            if answer.kind == "frame":  # else it is the one before
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


class MomentFootage(Footage):
    """A video sampled at given times instead of a fixed rate. moments_s: never falling."""

    def __init__(
        self, path: str | os.PathLike[str], *, moments_s: Sequence[float], watch: Watch = UNWATCHED
    ) -> None:
        self._moments_s = np.asarray(moments_s, dtype=np.float64)
        super().__init__(path, fps=1.0, watch=watch)

    def _sample(self, fps: float) -> None:  # noqa: ARG002 - the times are given
        timeline = self._timeline
        # Half a tick, for times that were rounded.
        ticks = self._moments_s / float(timeline.time_base) + 0.5
        frames = np.searchsorted(timeline.ticks, ticks, side="right") - 1
        self.times_s, self._frames = self._moments_s, np.maximum(frames, 0).astype(np.int64)


def _picture(frame: Message, most_width: int, most_height: int) -> bytes:
    values: dict[str, Any] = frame.values
    turned = Orientation(**values["orientation"])
    pixels: npt.NDArray[np.uint8] = frame.block.reshape(values["height"], values["width"], 3)
    height, width = values["height"], max(1, round(values["width"] * values["pixel_aspect"]))
    if turned.transpose:
        height, width, pixels = width, height, pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if turned.mirror_y else 1, :: -1 if turned.mirror_x else 1]
    scale = min(most_width / width, most_height / height, 1.0)
    return encode_jpeg(
        np.ascontiguousarray(pixels),
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
    )
