"""Decoded frames to pixels, and pixels to JPEG. Knows neither files nor packets."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, VideoReformatter

from vidground.errors import VideoError
from vidground.storage.files import printable
from vidground.video.nvdec import as_on_the_cpu
from vidground.video.orientation import UPRIGHT, Orientation

_JPEG_QUANTIZER = 5
"""From 1, the finest, to 31."""


class DecodedFrame:
    """One frame as the decoder returned it.

    Attributes:
        packet: index of the packet it came from; None if the decoder does not know.
        corrupt: whether the decoder marks it as damaged.
        intra: whether it refers to no other picture.
        interlaced: whether it consists of two fields.
        pixel_aspect: width of a pixel over its height.
    """

    def __init__(self, frame: av.VideoFrame, converter: FrameConverter) -> None:
        self._frame = frame
        self._converter = converter
        self.packet = frame.pts
        self.corrupt = frame.is_corrupt
        self.intra = frame.key_frame or frame.pict_type == PictureType.I
        self.interlaced = frame.interlaced_frame
        self.pixel_aspect = converter.pixel_aspect

    @property
    def orientation(self) -> Orientation:
        """How a player turns the frame."""
        return self._converter.orientation(self._frame)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) as shown: square pixels, turned as the display matrix says."""
        height, width = self._frame.height, max(1, round(self._frame.width * self.pixel_aspect))
        return (width, height) if self.orientation.transpose else (height, width)

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Return the pixels as decoded, (height, width, 3) uint8.

        Colour matrix and range are those the stream states; where it states none, BT.601 and
        limited range, as libswscale takes them.

        Raises:
            VideoError: libswscale does not convert pictures of this format or size.
        """
        return self._converter.rgb(self._frame)


class FrameConverter:
    """Converts the frames of one stream to pictures as a player shows them.

    Args:
        path: of the file, for messages.
        pixel_aspect: width of a pixel over its height.
    """

    def __init__(self, path: str | os.PathLike[str], pixel_aspect: Fraction) -> None:
        self._path = path
        self.pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._orientation = UPRIGHT

    def orientation(self, frame: av.VideoFrame) -> Orientation:
        """Return how a player turns a frame."""
        if frame.rotation != self._rotation:
            self._rotation = frame.rotation
            # Side data and their frame reference each other until the garbage collector runs:
            # read those of a tiny copy, and only where the angle has changed.
            tiny = self._reformatter.reformat(frame, 16, 16, "gray", interpolation="POINT")
            side_data = cast("SideDataContainer", tiny.side_data)  # the stubs say a dict
            self._orientation = UPRIGHT
            if SideDataType.DISPLAYMATRIX in side_data:
                matrix = np.frombuffer(bytes(side_data[SideDataType.DISPLAYMATRIX]), np.int32)
                self._orientation = Orientation.from_display_matrix(matrix.tolist())
        return self._orientation

    def rgb(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """See `DecodedFrame.rgb`."""
        try:
            picture = self._reformatter.reformat(
                as_on_the_cpu(frame, self._reformatter),
                format="rgb24",
                interpolation="BILINEAR",
                src_color_range=frame.color_range,
                dst_color_range=ColorRange.JPEG,
                threads=1,
            )
        except av.FFmpegError as error:
            if isinstance(error, MemoryError | OSError):
                raise
            raise VideoError(
                f"{printable(self._path)}: its pictures ({frame.format.name}, {frame.width}x"
                f"{frame.height}) cannot be converted to RGB ({error.strerror}); convert it with "
                "another program"
            ) from error
        return picture.to_ndarray().astype(np.uint8, copy=False)


def encode_jpeg(rgb: npt.NDArray[np.uint8], *, width: int, height: int) -> bytes:
    """Return a picture as a JPEG of fair quality.

    Args:
        rgb: (height, width, 3) uint8, of any size.
        width: of the JPEG in pixels.
        height: of the JPEG in pixels.
    """
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt, encoder.color_range = "yuv420p", ColorRange.JPEG
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = _JPEG_QUANTIZER
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        width,
        height,
        format="yuv420p",
        dst_colorspace="itu601",
        dst_color_range=ColorRange.JPEG,
        interpolation="AREA",
    )
    return b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
