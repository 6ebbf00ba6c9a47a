"""Small pictures of moments of a video, as JPEG.

Frames are those that the rest of vidground sees at the same times (`vidground.footage`). Knows
nothing of what the pictures are for; imports no torch.
"""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidground.decoding import DecodedFrame, encode_jpeg
from vidground.footage import Footage

THUMBNAIL_SIZE = (160, 90)
"""Most pixels in width and height."""


def thumbnails(
    path: str | os.PathLike[str],
    times_s: Sequence[float],
    *,
    size: tuple[int, int] = THUMBNAIL_SIZE,
) -> list[bytes]:
    """Return a JPEG of what is shown at each of `times_s`, in their order.

    Only the packets that are needed are decoded, where the file's times can be trusted. A time
    past the end shows the last frame.

    times_s: seconds from the first frame. size: most pixels in width and height; the pictures
    keep their shape and are turned as a player turns them.

    Raises:
        VideoError: the file is missing, no video, or gives no frame.
    """
    if not times_s:
        return []
    order = np.argsort(times_s, kind="stable")
    footage = _MomentFootage(path, np.asarray(times_s, dtype=np.float64)[order])
    pictures: dict[int, bytes] = {}
    for shown in footage.frames():
        picture = _picture(shown.frame, *size)
        pictures |= {int(order[index]): picture for index in range(shown.first, shown.last + 1)}
    return [pictures[index] for index in range(len(times_s))]


class _MomentFootage(Footage):
    """A video sampled at given times instead of a fixed rate. moments_s: (T,) never falling."""

    def __init__(self, path: str | os.PathLike[str], moments_s: npt.NDArray[np.float64]) -> None:
        self._moments_s = moments_s
        super().__init__(path, fps=1.0)

    def _sample(self, fps: float) -> None:  # noqa: ARG002 - the times are given
        timeline = self._timeline
        # Half a tick, for times that were rounded.
        ticks = self._moments_s / float(timeline.time_base) + 0.5
        frames = np.searchsorted(timeline.ticks, ticks, side="right") - 1
        self.times_s, self._frames = self._moments_s, np.maximum(frames, 0).astype(np.int64)


def _picture(frame: DecodedFrame, most_width: int, most_height: int) -> bytes:
    height, width = frame.shown_size
    scale = min(most_width / width, most_height / height, 1.0)
    pixels, turned = frame.rgb(), frame.orientation
    if turned.transpose:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if turned.mirror_y else 1, :: -1 if turned.mirror_x else 1]
    return encode_jpeg(
        np.ascontiguousarray(pixels),
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
    )
