"""Decoding on an NVIDIA GPU (NVDEC), where its pictures equal those of the CPU bit for bit.

Opens the GPU for `video_file`, and converts its pictures to the formats of a decoder on the CPU.
Knows neither files nor packets.
"""

import ctypes

import av
from av.codec.hwaccel import HWAccel, HWDeviceType
from av.video.reformatter import VideoReformatter

from vidground.errors import InputError
from vidground.settings import CPU, may_use_cpu

EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9"})
"""Codecs whose standards define every bit of a decoded picture, and whose decoders in PyAV support
the GPU. MPEG-2, MPEG-4 and JPEG leave the rounding of their transform open; PyAV decodes AV1 with a
library without GPU support."""

_LIKE_THE_CPU = {"nv12": "yuv420p"}
"""Formats of the GPU's pictures, and the CPU's formats for the same numbers. libswscale converts
the two to RGB differently, so the numbers are rearranged first."""
_AS_THEY_ARE = frozenset({"p010le", "yuv444p"})
"""Formats that libswscale converts to the same colours as the CPU's formats."""

_VIDEO_LIBRARY = "libnvcuvid.so.1"
"""The part of the driver that decodes. In a container it can be missing although CUDA works."""


class CudaError(Exception):
    """The GPU cannot decode something, or may decode it differently; use the CPU instead."""


def opens_card(decode_on: str) -> bool:
    """Return whether a GPU can decode here.

    Args:
        decode_on: see `settings.check_decode_on`.

    Raises:
        InputError: a GPU is required and there is none, or its driver cannot decode video.
    """
    if decode_on == CPU:
        return False
    try:
        accelerator(decode_on).create(av.Codec("h264", "r"))
        ctypes.CDLL(_VIDEO_LIBRARY)
    except (av.FFmpegError, OSError, NotImplementedError) as error:
        if may_use_cpu(decode_on):
            return False
        raise InputError(
            f"decode_on is {decode_on!r} and there is no such card, or its driver lacks the part "
            f"for video ({error}); check nvidia-smi, and in a container that "
            "NVIDIA_DRIVER_CAPABILITIES holds video, or decode on the CPU (--decode-on cpu)"
        ) from error
    return True


def accelerator(decode_on: str) -> HWAccel:
    """Return PyAV's accelerator, which decodes on a GPU and never silently elsewhere.

    Pictures are copied to main memory at once, because the GPU can lend only a few of them. It has
    a CUDA context of its own: FFmpeg refuses the one that torch has opened.
    """
    card = decode_on.partition(":")[2] or None
    # By its constant: a name that the library does not know would stand for any device.
    return HWAccel(HWDeviceType.cuda, card, allow_software_fallback=False)


def require_exact(frame: av.VideoFrame) -> None:
    """Check that a picture's format is known to give the same colours as on the CPU.

    Raises:
        CudaError: it is not.
    """
    name = frame.format.name
    if name not in _LIKE_THE_CPU and name not in _AS_THEY_ARE:
        raise CudaError(f"its pictures come as {name} from the card")


def as_on_the_cpu(frame: av.VideoFrame, reformatter: VideoReformatter) -> av.VideoFrame:
    """Return a picture in the format of a decoder on the CPU.

    Numbers are moved, not changed: matrix and range stay as stated.
    """
    name = _LIKE_THE_CPU.get(frame.format.name)
    if name is None:
        return frame
    same = {"src_color_range": frame.color_range, "dst_color_range": frame.color_range}
    return reformatter.reformat(frame, format=name, interpolation="POINT", threads=1, **same)
