"""Pixels of the toy world: frames of a film at any instants, drawn in memory.

Video files and training on drawn frames both use it, so that they show the same world. Knows no
questions, files or codecs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidground.errors import InputError
from vidground.training.toy.motion import ToySprite
from vidground.training.toy.world import ToyVideo

MIN_SIZE = 32
"""Smallest side of a frame in pixels; below it the smallest shapes look alike."""

_DOT_RGB = (16.0, 16.0, 16.0)
_DOT_DISTANCE, _DOT_RADIUS = 0.40, 0.26  # of the dark dot, in radii of its shape

Array = NDArray[np.float32]


def render(
    video: ToyVideo, times_s: NDArray[np.float64], *, size: int, noise_seed: int
) -> NDArray[np.uint8]:
    """Draw the frames of a video at some instants.

    A frame depends on its instant, `size` and `noise_seed` only, not on the frames drawn with it.
    Shapes have smooth edges; distractors are drawn first, events over them.

    Args:
        video: what to draw.
        times_s: T instants in seconds, in any order.
        size: side in pixels, at least `MIN_SIZE`.
        noise_seed: from 0 to 2**64 - 1.

    Returns:
        (T, size, size, 3) RGB.

    Raises:
        InputError: `size` is too small.
    """
    if size < MIN_SIZE:
        raise InputError(f"size is {size} pixels; toy frames need at least {MIN_SIZE}")
    times_s = np.asarray(times_s, dtype=np.float64)
    frames = np.repeat(_background(video, size)[None], len(times_s), axis=0)
    for sprite in (*video.distractors, *(event.sprite for event in video.events)):
        _paint(frames, sprite, times_s)
    frames += _noise(video, times_s, size, noise_seed)
    return np.rint(frames, out=frames).clip(0, 255).astype(np.uint8)


def _background(video: ToyVideo, size: int) -> Array:
    centre, rise_right, rise_down = video.background
    along = (np.arange(size) + 0.5) / size - 0.5
    grey = centre + rise_right * along[None, :] + rise_down * along[:, None]
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def _noise(video: ToyVideo, times_s: NDArray[np.float64], size: int, noise_seed: int) -> Array:
    """Return grey noise, (T, size, size, 1), from one random stream per millisecond of film."""
    noise = np.empty((len(times_s), size, size, 1), dtype=np.float32)
    for frame, time_s in zip(noise, times_s, strict=True):
        stream = np.random.Philox(key=[noise_seed, round(time_s * 1000)])
        np.random.Generator(stream).standard_normal(dtype=np.float32, out=frame)
    noise *= video.noise
    return noise


def _paint(frames: Array, sprite: ToySprite, times_s: NDArray[np.float64]) -> None:
    """Paint a sprite on the frames (T, S, S, 3) that show it, each in a window around it."""
    poses = sprite.poses(times_s)
    seen = np.flatnonzero(poses[:, 4])
    if not len(seen):
        return
    size = frames.shape[1]
    x, y, radius, angle, opacity = poses[seen].astype(np.float32).T[:, :, None, None]
    window = np.arange(min(size, int(np.ceil(2 * radius.max() * size)) + 2))
    corner = size - len(window)
    left, top = (
        np.floor((at - radius) * size - 1).clip(0, corner).astype(np.int64) for at in (x, y)
    )
    columns, rows = left + window[None, None, :], top + window[None, :, None]
    u = ((columns + 0.5) / size - x) / radius
    v = ((rows + 0.5) / size - y) / radius
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    u, v = u * cos + v * sin, v * cos - u * sin
    pixels = radius * size
    body = opacity * _coverage(_distance(sprite.shape, u, v) * pixels)
    dot = opacity * _coverage((np.hypot(u, v + _DOT_DISTANCE) - _DOT_RADIUS) * pixels)
    there = (seen[:, None, None], rows, columns)
    patch = frames[there]
    for cover, rgb in ((body, sprite.rgb), (dot, _DOT_RGB)):
        patch += cover[..., None] * (np.asarray(rgb, np.float32) - patch)
    frames[there] = patch


def _coverage(distance_pixels: Array) -> Array:
    """Return the share of a pixel inside an edge at this signed distance (negative inside)."""
    return (0.5 - distance_pixels).clip(0, 1)


def _distance(shape: str, u: Array, v: Array) -> Array:
    """Return the signed distance to the edge of an upright shape, in its radii; negative inside.

    Beyond a corner it is less than the true distance, which smooth edges do not show. All shapes
    fit into the unit circle; circle, square and cross have equal areas.
    """
    match shape:
        case "circle":
            # A ring: a disc and a square of few pixels differ in nothing but their corners.
            distance = np.abs(np.hypot(u, v) - 0.625) - 0.245
        case "square":
            distance = np.maximum(np.abs(u), np.abs(v)) - 0.7
        case "triangle":
            distance = np.maximum(v, 0.8660254 * np.abs(u) - 0.5 * v) - 0.5
        case "cross":
            wide, narrow = 0.93, 0.32
            flat = np.maximum(np.abs(u) - wide, np.abs(v) - narrow)
            tall = np.maximum(np.abs(u) - narrow, np.abs(v) - wide)
            distance = np.minimum(flat, tall)
        case _:
            raise InputError(f"shape is {shape!r}; it must be circle, square, triangle or cross")
    return distance.astype(np.float32, copy=False)
