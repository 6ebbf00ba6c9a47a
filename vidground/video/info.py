"""Facts about a video file. Imports neither torch nor PyAV."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What was measured of a video file, not what its header claims.

    path: as it was given. duration_s: from the first frame's presentation to the end of the
    last frame, in seconds. width, height: as shown, in pixels, after rotation and sample
    aspect ratio. fps: average frame rate; None for a single frame. constant_rate: whether all
    frames are equally far apart. frames: frames on the timeline. damaged_packets: packets that
    could not be decoded. sha256: hash of the file's content, lower-case hex; None if not asked.
    """

    path: str
    duration_s: float
    width: int
    height: int
    fps: float | None
    constant_rate: bool
    codec: str
    frames: int
    size_bytes: int
    damaged_packets: int = 0
    sha256: str | None = None
