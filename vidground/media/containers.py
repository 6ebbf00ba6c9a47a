"""Containers that vidground can write, and the codecs used in each. Opens no files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vidground.errors import InputError

_X264 = {"c:v": "libx264", "preset": "fast", "crf": "18", "pix_fmt": "yuv420p"}
_VP9 = {"c:v": "libvpx-vp9", "b:v": "0", "crf": "24", "cpu-used": "4", "pix_fmt": "yuv420p"}
_USUAL_BITS = 8
_AAC = {"c:a": "aac", "b:a": "192k"}
_INDEX_FIRST = {"movflags": "+faststart"}

EVEN_SIZE = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
"""Filter before these encoders: chroma at half resolution needs an even width and height."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container and its codecs, as options of ffmpeg.

    Attributes:
        format: name of the muxer.
        video: options of the video encoder.
        audio: options of the audio encoder.
        subtitles: codecs that a soft track can have, the usual one first.
        options: of the muxer.
    """

    format: str
    video: Mapping[str, str]
    audio: Mapping[str, str]
    subtitles: tuple[str, ...]
    options: Mapping[str, str]

    def encoding(self, bits: int) -> dict[str, str]:
        """Return options of the video encoder for a source with `bits` per sample.

        A source of more than 8 bits gives 10: high dynamic range in 8 bits shows bands.
        """
        return {**self.video, **({"pix_fmt": "yuv420p10le"} if bits > _USUAL_BITS else {})}

    @property
    def takes_all(self) -> bool:
        """Whether the container holds streams of nearly every codec."""
        return self.format == "matroska"


_MP4 = Container("mp4", _X264, _AAC, ("mov_text",), _INDEX_FIRST)

CONTAINERS: Mapping[str, Container] = MappingProxyType(
    {
        ".mp4": _MP4,
        ".m4v": _MP4,
        ".mov": Container("mov", _X264, _AAC, ("mov_text",), _INDEX_FIRST),
        ".mkv": Container("matroska", _X264, _AAC, ("srt", "ass"), {}),
        ".webm": Container("webm", _VP9, {"c:a": "libopus", "b:a": "128k"}, ("webvtt",), {}),
    }
)


def container_of(path: Path) -> Container:
    """Return the container that the suffix of `path` stands for.

    Raises:
        InputError: the suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise InputError(f"files with suffix {suffix!r} cannot be written; choose one of {known}")
    return CONTAINERS[suffix]


def suffix_for_parts(video: Path) -> str:
    """Return the suffix for clips of `video`: its own, or one whose container takes any stream."""
    return video.suffix.lower() if video.suffix.lower() in CONTAINERS else ".mkv"
