"""Facts about a video file. Imports neither torch nor PyAV."""

from __future__ import annotations

from dataclasses import dataclass

CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,"
    "m4v,obu,ivf,mxf,rm,wtv,nut,dv,yuv4mpegpipe"
)
"""FFmpeg's names of the formats that hold a video themselves. Playlists and scripts, which make
FFmpeg open other files and addresses, are not among them."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What was measured of a video file, and what its container says of timecode and sound.

    Attributes:
        path: as it was given.
        duration_s: from the file's start as players count it, which is that of the sound where
            that begins first, to the end of the last frame, in seconds.
        width: in pixels as shown, after rotation and sample aspect ratio.
        height: as `width`.
        fps: average frame rate; None for a single frame.
        constant_rate: whether all frames are equally far apart.
        codec: short name of the video codec.
        frames: number of frames on the timeline.
        size_bytes: of the file.
        damaged_packets: number of packets that could not be decoded.
        sha256: of the file's content, lower-case hex; None if it was not computed.
        timecode: source timecode of the file's start, HH:MM:SS:FF (HH:MM:SS;FF for drop-frame),
            counted at `fps`; None if the file has none.
        sound_tracks: number of sound tracks; None if unknown, as in results of older versions.
        sound_channels: of the first sound track; None if unknown or there is none.
        sound_rate: samples per second of the first sound track; None as for `sound_channels`.
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
    timecode: str | None = None
    sound_tracks: int | None = None
    sound_channels: int | None = None
    sound_rate: int | None = None
