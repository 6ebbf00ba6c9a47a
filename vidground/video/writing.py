"""Pictures written as an H.264 video with given times."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

ENCODER: Final = "libx264"


def write_h264(
    path: Path,
    pictures: Iterable[tuple[int, NDArray[np.uint8]]],
    *,
    rate: int,
    time_base: Fraction,
    encoding: Mapping[str, str],
    container: Mapping[str, str],
) -> None:
    """Encode pictures as an MP4 file with the pixel format yuv420p.

    Args:
        path: of the file.
        pictures: one or more, each with its time in units of `time_base`, rising; (height, width,
            3) RGB with even sides.
        rate: pictures per second as stated in the header.
        time_base: seconds per unit of time.
        encoding: options of the encoder.
        container: options of the container.

    Raises:
        av.FFmpegError, OSError: the file cannot be written, or the encoder is missing.
    """
    with av.open(str(path), "w", format="mp4", options=dict(container)) as output:
        stream = output.add_stream(ENCODER, rate=rate, options=dict(encoding))
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for number, (time, pixels) in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = time, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def can_write_h264() -> bool:
    """Return whether PyAV's libraries have the encoder."""
    return ENCODER in av.codecs_available


def codec_libraries() -> dict[str, str]:
    """Versions of the FFmpeg libraries that PyAV uses, by name."""
    return {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
