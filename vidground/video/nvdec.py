"""Decoding on an NVIDIA card (NVDEC), as far as it gives what a processor gives, to the bit.

Opens the card for `decoding`, and makes its pictures those of a decoder on the CPU. Beside
`decoding` and `pictures` the only module that imports PyAV. Knows neither files nor packets.
"""

import ctypes

import av
from av.codec.hwaccel import HWAccel, HWDeviceType
from av.video.reformatter import VideoReformatter

from vidground.errors import InputError
from vidground.settings import CPU, may_use_cpu

EXACT_CODECS = frozenset({"h264", "hevc", "vp8", "vp9"})
"""Those whose standards fix every bit of a decoded picture, and whose decoders in PyAV can use the
card. MPEG-2 and MPEG-4 leave the rounding of their transform open, JPEG does too; PyAV decodes AV1
by a library that knows no card."""

_LIKE_THE_CPU = {"nv12": "yuv420p"}
"""Formats of the card's pictures, and how the same numbers lie on the CPU. libswscale makes colours
of one by another way than of the other, so they are put in order first."""
_AS_THEY_ARE = frozenset({"p010le", "yuv444p"})
"""From these libswscale makes the same colours as from the CPU's formats."""

_VIDEO_LIBRARY = "libnvcuvid.so.1"
"""The part of the driver that decodes. In a container it can be missing although CUDA works."""


class CudaError(Exception):
    """The card does not decode something, or not surely the same; decode it on the CPU instead."""


def opens_card(decode_on: str) -> bool:
    """Whether there is a card to decode on; see `settings.check_decode_on` for `decode_on`.

    Raises:
        InputError: a card is demanded and there is none, or its driver cannot decode video.
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
    """What PyAV opens a file with, so that it is decoded on a card and never quietly elsewhere.

    Its pictures are copied to main memory as they come, so none of the few that a card can hold
    out is kept. It has a CUDA context of its own: FFmpeg refuses the one torch has opened.
    """
    card = decode_on.partition(":")[2] or None
    # By its constant: a name that the library does not know would stand for any device.
    return HWAccel(HWDeviceType.cuda, card, allow_software_fallback=False)


def require_exact(frame: av.VideoFrame) -> None:
    """Refuse pictures in a format of which it is not known that their colours are the same.

    Raises:
        CudaError: it is such a format.
    """
    name = frame.format.name
    if name not in _LIKE_THE_CPU and name not in _AS_THEY_ARE:
        raise CudaError(f"its pictures come as {name} from the card")


def as_on_the_cpu(frame: av.VideoFrame, reformatter: VideoReformatter) -> av.VideoFrame:
    """The picture of a card, or of a decoder on the CPU, in the format of the latter.

    Numbers are moved, not changed: matrix and range stay as stated.
    """
    name = _LIKE_THE_CPU.get(frame.format.name)
    if name is None:
        return frame
    same = {"src_color_range": frame.color_range, "dst_color_range": frame.color_range}
    return reformatter.reformat(frame, format=name, interpolation="POINT", threads=1, **same)
