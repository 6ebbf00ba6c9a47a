"""Make small video files whose frames carry their own number, for tests.

Each frame shows its index as a grid of bright and dark cells in its middle square, so that
`read_index` gives the number back from the pixels, even after resizing, cropping and lossy
coding. The same arguments give the same frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidground.video.pyav import open_input

GRID = 4
"""Cells in a row and in a column; their 16 bits hold indices below 65,536."""

DARK, BRIGHT = 40, 215

TIME_BASE = Fraction(1, 90_000)


def index_picture(index: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return (height, width, 3) pixels that show `index`, size = (width, height)."""
    width, height = size
    bits = np.array([index >> bit & 1 for bit in range(GRID * GRID)]).reshape(GRID, GRID)
    side = min(width, height)
    cell = np.minimum(np.arange(side) * GRID // side, GRID - 1)
    square = np.where(bits[np.ix_(cell, cell)], BRIGHT, DARK)
    picture = np.full((height, width), (BRIGHT + DARK) // 2)
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = square
    return np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)


def read_index(pixels: Any) -> int:
    """Return the index that a (3, S, S) or (H, W, 3) picture shows in its middle square."""
    picture = np.asarray(pixels)
    if picture.shape[0] == 3:
        picture = picture.transpose(1, 2, 0)
    grey = picture.mean(axis=2)
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    centres = ((np.arange(GRID) + 0.5) * side / GRID).astype(int)
    cells = grey[np.ix_(top + centres, left + centres)] > (BRIGHT + DARK) / 2
    return int((cells.reshape(-1) * (1 << np.arange(GRID * GRID))).sum())


def make_video(
    path: Path,
    *,
    frames: int = 50,
    fps: Fraction | int = 25,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    gop: int = 12,
    bframes: int = 2,
    times: Sequence[float | Fraction] | None = None,
    options: Mapping[str, str] | None = None,
    pixel_format: str = "yuv420p",
    pixel_aspect: Fraction | None = None,
    rotation: float = 0,
    mirrored: bool = False,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Write a video to `path`, its container by the suffix, and return `path`.

    times: seconds at which each frame is shown; None for a constant `fps`. gop: frames between
    key frames. options: the encoder's own. rotation: degrees counter-clockwise in the display
    matrix; mirrored: with left and right swapped there.
    """
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        fixed = {"sc_threshold": "0"} if codec == "libx264" else {}  # no key frames of its own
        stream = container.add_stream(
            codec, rate=Fraction(fps), options={**fixed, **(options or {})}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.gop_size, context.max_b_frames = gop, bframes
        context.thread_count = 1
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect
        if times is not None:
            context.time_base = stream.time_base = TIME_BASE
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(index_picture(index, size), format="rgb24")
            if times is None:
                frame.pts, frame.time_base = index, 1 / Fraction(fps)
            else:
                frame.pts, frame.time_base = round(times[index] / TIME_BASE), TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(
    source: Path,
    target: Path,
    *,
    shift_s: float = 0.0,
    gap: tuple[int, float] | None = None,
    keep: Iterable[int] | None = None,
    all_keys: bool = False,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Copy the packets of a video into another container, by the suffix of `target`.

    shift_s: seconds added to all times; below 0, MP4 writes an edit list that hides what comes
    before 0. gap: (packet, seconds): from this packet on, times are so much later. keep: only
    these packets, in the order of decoding. all_keys: mark all as key packets, wrongly.
    """
    kept = None if keep is None else set(keep)
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", options=dict(container_options or {})) as writer,
    ):
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for index, packet in enumerate(p for p in reader.demux(stream) if p.size):
            if kept is not None and index not in kept:
                continue
            later_s = shift_s + (gap[1] if gap is not None and index >= gap[0] else 0.0)
            ticks = round(later_s / packet.time_base)
            packet.pts += ticks
            packet.dts += ticks
            packet.is_keyframe = packet.is_keyframe or all_keys
            packet.stream = copy
            writer.mux(packet)
    return target


def plain_decode(path: Path) -> list[tuple[int | None, npt.NDArray[np.uint8]]]:
    """Return (time stamp, RGB pixels) of every frame, decoded in sequence and nothing else.

    The independent measurement that readers are held against; a damaged packet gives nothing.
    """
    frames = []
    with open_input(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.thread_count = 1
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            frames += [
                (
                    frame.pts,
                    frame.to_ndarray(
                        format="rgb24",
                        src_color_range=frame.color_range,
                        dst_color_range="JPEG",
                    ),
                )
                for frame in decoded
            ]
    return frames
