"""Pixels are oriented, resized and cropped as the released weights saw them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from vidground.video.orientation import Orientation
from vidground.video.preprocessing import CLIP_MEAN, CLIP_STD, _colours, normalize, resize_and_crop


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + y / 31), np.cos(x / 23 - y / 7), np.sin(x * y / 900)]
    return (127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8)


def float_reference(rgb: np.ndarray, new_height: int, new_width: int, size: int) -> np.ndarray:
    """Resize in float and crop, independently of the uint8 way."""
    frame = torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0).double()
    new = F.interpolate(frame, (new_height, new_width), mode="bilinear", antialias=True)[0]
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return new[:, top : top + size, left : left + size].numpy()


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [
        (360, 640, (56, 99)),  # 56 * 640 / 360 = 99.6, truncated
        (640, 360, (99, 56)),
        (100, 100, (56, 56)),
        (181, 321, (56, 99)),
        (30, 40, (56, 74)),
        (2, 2, (56, 56)),
        (56, 57, (56, 57)),
    ],
)
@pytest.mark.parametrize("make", [noise, smooth])
def test_resize_is_within_one_grey_level_of_float(height, width, resized, make) -> None:
    rgb = make(height, width)
    square = resize_and_crop(rgb, 56)
    assert square.shape == (3, 56, 56)
    assert square.dtype == torch.uint8
    expected = float_reference(rgb, *resized, 56)
    assert np.abs(square.numpy() - expected).max() <= 1.0 + 1e-6


def test_crop_starts_at_the_floor_of_half_the_rest() -> None:
    # Already 4 high: no resizing; 9 columns leave 5, so 2 on the left.
    rgb = np.repeat(np.arange(9, dtype=np.uint8)[None, :, None] * 20, 4, axis=0).repeat(3, axis=2)
    assert resize_and_crop(rgb, 4)[0, 0].tolist() == [40, 60, 80, 100]


def test_wide_pixels_widen_the_picture() -> None:
    rgb = smooth(90, 80)
    expected = float_reference(rgb, 45, 80, 45)  # shown 160 x 90
    square = resize_and_crop(rgb, 45, pixel_aspect=2.0)
    assert np.abs(square.numpy() - expected).max() <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (Orientation(), lambda p: p),
        (Orientation(mirror_x=True), np.fliplr),
        (Orientation(mirror_y=True), np.flipud),
        (Orientation(mirror_x=True, mirror_y=True), lambda p: np.rot90(p, 2)),
        (Orientation(transpose=True, mirror_x=True), lambda p: np.rot90(p, -1)),
        (Orientation(transpose=True, mirror_y=True), np.rot90),
        (Orientation(transpose=True), lambda p: p.transpose(1, 0, 2)),
    ],
)
@pytest.mark.parametrize("size", [(60, 91), (91, 60), (3, 400), (400, 3)])
def test_turning_is_the_same_before_and_after(orientation, turn, size) -> None:
    rgb = smooth(*size)
    turned_first = resize_and_crop(np.ascontiguousarray(turn(rgb)), 12).int()
    turned_after = resize_and_crop(rgb, 12, orientation=orientation).int()
    assert (turned_first - turned_after).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(8, 400), (7, 150), (300, 9), (40, 1000)])
def test_very_long_frames_equal_the_float_way(height: int, width: int) -> None:
    rgb = noise(height, width)
    size = 16
    short, long = min(height, width), max(height, width)
    new = int(size * long / short)
    assert new > 16 * size
    resized = (new, size) if height > width else (size, new)
    expected = float_reference(rgb, *resized, size)
    assert np.abs(resize_and_crop(rgb, size).numpy() - expected).max() <= 0.5 + 1e-6


def test_a_sliver_costs_no_more_than_its_square() -> None:
    rgb = np.zeros((2, 8192, 3), np.uint8)
    rgb[:, 4096:] = 200  # resized in full this would be 224 x 917,504
    square = resize_and_crop(rgb, 224)
    assert square.shape == (3, 224, 224)
    assert square[0, 0, [0, 50, 173, 223]].tolist() == [0, 0, 200, 200]


def test_normalize() -> None:
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    result = normalize(frames, dtype=torch.float32, device="cpu")
    assert result.shape == (2, 3, 2, 2)
    for channel, (mean, std) in enumerate(zip(CLIP_MEAN, CLIP_STD, strict=True)):
        assert result[0, channel, 0, 0].item() == pytest.approx(-mean / std)
        assert result[1, channel, 1, 1].item() == pytest.approx((1 - mean) / std)
    half = normalize(frames, dtype=torch.bfloat16, device="cpu")
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, result.to(torch.bfloat16))


def test_the_mean_colour_becomes_zero() -> None:
    frames = (torch.tensor(CLIP_MEAN) * 255).round().to(torch.uint8).view(1, 3, 1, 1)
    assert normalize(frames, dtype=torch.float32, device="cpu").abs().max() < 0.01


def test_normalising_changes_nothing_but_what_it_returns() -> None:
    _colours.cache_clear()
    with torch.inference_mode():  # its constants are made once, whichever mode is on at that time
        normalize(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), dtype=torch.float32, device="cpu")
    frames = torch.randint(256, (2, 3, 4, 4)).to(torch.float32).requires_grad_()
    kept = frames.detach().clone()
    normalize(frames, dtype=torch.float32, device="cpu").sum().backward()
    assert torch.equal(frames, kept)
    expected = 1 / (255 * torch.tensor(CLIP_STD)).view(3, 1, 1)
    torch.testing.assert_close(frames.grad, expected.expand(2, 3, 4, 4))
