"""Pixels as the vision encoder expects them: oriented, resized, cropped, normalised.

Knows nothing of video files or times; imports no PyAV.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name

from vidground.devices import to_device
from vidground.video.orientation import UPRIGHT, Orientation

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_LONGEST_RESIZE = 16
"""Frames with a greater ratio of long to short side are cropped while being resized."""


def resize_and_crop(
    rgb: npt.NDArray[np.uint8],
    image_size: int,
    *,
    pixel_aspect: float = 1.0,
    orientation: Orientation = UPRIGHT,
) -> torch.Tensor:
    """Return the centre square of a frame as it is shown, as uint8 (3, S, S), S = image_size.

    The shorter shown side becomes S by antialiased bilinear interpolation, the longer one
    int(S * longer / shorter); the square starts at floor((longer - S) / 2).

    Args:
        rgb: (height, width, 3) as decoded.
        image_size: side S in pixels.
        pixel_aspect: width of a pixel over its height.
        orientation: how a player turns the decoded frame.
    """
    height, width = rgb.shape[:2]
    new_size = _resized(height, max(1, round(width * pixel_aspect)), image_size)
    frame = torch.from_numpy(rgb).permute(2, 0, 1)
    if max(new_size) > _LONGEST_RESIZE * image_size:
        new_size = new_size[::-1] if orientation.transpose else new_size
        return _resize_middle(_orient(frame, orientation), *new_size, image_size)
    # The frame's memory is channels-last, for which the uint8 kernel is fastest; turning the
    # small picture costs less than turning the large one.
    resized = F.interpolate(frame.unsqueeze(0), new_size, mode="bilinear", antialias=True)
    shown = _orient(resized[0], orientation)
    top, left = (shown.shape[1] - image_size) // 2, (shown.shape[2] - image_size) // 2
    return shown[:, top : top + image_size, left : left + image_size].contiguous()


def normalize(
    frames: torch.Tensor, *, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Return frames as the vision encoder takes them: (x / 255 - mean) / std per channel.

    Args:
        frames: (N, 3, S, S) uint8 RGB.
        dtype: of the result; it is computed in float32 and rounded once.
        device: of the result.

    Returns:
        (N, 3, S, S).
    """
    place = torch.device(device)
    mean, std = _colours(place)
    scaled = to_device(frames, place).to(torch.float32) / 255
    return scaled.sub_(mean).div_(std).to(dtype)


@cache
def _colours(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, (3, 1, 1), copied to a device once."""
    with torch.inference_mode(False):  # they are also used outside of it
        mean = torch.tensor(CLIP_MEAN, dtype=torch.float32, device=device)
        std = torch.tensor(CLIP_STD, dtype=torch.float32, device=device)
    return mean.view(3, 1, 1), std.view(3, 1, 1)


def _resized(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the (height, width) at which the shorter side is `size`, the longer truncated."""
    if width <= height:
        return int(size * height / width), size
    return size, int(size * width / height)


def _orient(frame: torch.Tensor, orientation: Orientation) -> torch.Tensor:
    """Turn (3, height, width) pixels."""
    if orientation.transpose:
        frame = frame.transpose(1, 2)
    mirrored = [axis for axis, on in ((2, orientation.mirror_x), (1, orientation.mirror_y)) if on]
    return frame.flip(mirrored) if mirrored else frame


def _resize_middle(frame: torch.Tensor, height: int, width: int, size: int) -> torch.Tensor:
    """Return the central `size` square of (3, H, W) resized to (height, width).

    Computes no pixel outside the square: a frame of 8192 x 2 would grow to 917,504 x 224.
    """
    rows, row_weights = _middle_weights(frame.shape[1], height, size)
    columns, column_weights = _middle_weights(frame.shape[2], width, size)
    middle = row_weights @ frame[:, rows, columns].double() @ column_weights.T
    return middle.round().clamp(0, 255).to(torch.uint8)


def _middle_weights(source: int, target: int, size: int) -> tuple[slice, torch.Tensor]:
    """Return the source pixels behind the middle `size` of `target` pixels, and their weights.

    The weights (size, pixels) are those of antialiased bilinear interpolation: a triangle
    around each target pixel's centre, as wide as one target pixel but at least one source pixel.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (torch.arange(size, dtype=torch.float64) + (target - size) // 2 + 0.5) * scale
    first = max(int(centres[0].item() - support), 0)
    last = min(int(centres[-1].item() + support) + 1, source)
    pixels = torch.arange(first, last, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / support).clamp(min=0)
    return slice(first, last), weights / weights.sum(dim=1, keepdim=True)
