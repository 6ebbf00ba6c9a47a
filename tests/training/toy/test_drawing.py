from dataclasses import replace

import numpy as np
import pytest

from vidground.errors import InputError
from vidground.training.toy.captions import Facts
from vidground.training.toy.drawing import render
from vidground.training.toy.motion import DIM_OPACITY, Pose, ToySprite
from vidground.training.toy.world import (
    ToyEvent,
    ToyVideo,
    sample_video,
)

RED = (220, 40, 40)
BACKGROUND = 200
MIDDLE = Pose(0.5, 0.5, 0.25, 0)


def film(
    shape: str = "square",
    first: Pose = MIDDLE,
    last: Pose | None = None,
    **other: float,
) -> ToyVideo:
    sprite = ToySprite(shape, RED, 2.0, 6.0, first, last or first, **other)
    event = ToyEvent(Facts("red", shape, "grows", None), sprite)
    return ToyVideo(8.0, (event,), (), (BACKGROUND, 0, 0), noise=0)


def draw(video: ToyVideo, *times_s: float, size: int = 112) -> np.ndarray:
    return render(video, np.array(times_s), size=size, noise_seed=0).astype(int)


def shown(frame: np.ndarray) -> np.ndarray:
    """Pixels that are more shape than background, the dark dot included."""
    return np.abs(frame - BACKGROUND).max(-1) > (BACKGROUND - 40) / 2


def test_a_shape_is_there_from_its_beginning_up_to_its_end_and_no_longer() -> None:
    frames = draw(film(), 0.0, 1.99, 2.0, 4.0, 5.99, 6.0, 7.9)
    centre = frames[:, 60, 56]
    assert (centre[[0, 1, 5, 6]] == BACKGROUND).all()
    assert (centre[2:5] == RED).all()
    assert (frames[[0, 1, 5, 6]] == BACKGROUND).all()


def test_colour_is_seen_in_exactly_the_frames_that_an_event_has() -> None:
    for seed in range(12):
        video = sample_video(np.random.default_rng(seed))
        times_s = np.arange(round(video.duration_s * 5)) / 5
        frames = render(video, times_s, size=48, noise_seed=seed).astype(int)
        coloured = (np.ptp(frames, axis=-1) > 40).any((1, 2))
        expected = sum((times_s >= e.start_s) & (times_s < e.end_s) for e in video.events) > 0
        assert (coloured == expected).all()


# Areas of shapes of radius 1 by hand: circle pi 0.8^2, square 1.4^2, an equilateral triangle
# around its circumcircle 3 sqrt(3) / 4, and two bars 1.86 x 0.64 less their common square.
@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", 2.0106),
        ("square", 1.96),
        ("triangle", 1.2990),
        ("cross", 2 * 1.86 * 0.64 - 0.64**2),
    ],
)
@pytest.mark.parametrize("angle_deg", [10, 25])
def test_shapes_have_their_area(shape: str, area: float, angle_deg: float) -> None:
    frame = draw(film(shape, Pose(0.5, 0.5, 0.25, angle_deg)), 3.0)[0]
    assert shown(frame).sum() == pytest.approx(area * 28**2, rel=0.03)


def test_a_triangle_points_up_and_a_bar_of_the_cross_is_narrow() -> None:
    triangle = shown(draw(film("triangle"), 3.0)[0])
    rows = np.flatnonzero(triangle.any(1))
    # From one radius above the centre to half a radius below it.
    assert abs(rows[0] - (56 - 28)) <= 1
    assert abs(rows[-1] - (56 + 14)) <= 1
    cross = shown(draw(film("cross"), 3.0)[0])
    assert abs(cross[32].sum() - 0.64 * 28) <= 1


def test_a_shape_goes_evenly_from_its_first_pose_to_its_last() -> None:
    moving = film("circle", Pose(0.3, 0.4, 0.1, 0), Pose(0.7, 0.6, 0.1, 0))
    for time_s, x, y in ((2.0, 0.3, 0.4), (4.0, 0.5, 0.5), (5.0, 0.6, 0.55)):
        rows, columns = np.nonzero(shown(draw(moving, time_s)[0]))
        assert columns.mean() + 0.5 == pytest.approx(x * 112, abs=0.3)
        assert rows.mean() + 0.5 == pytest.approx(y * 112, abs=0.3)
    growing = film("square", Pose(0.5, 0.5, 0.1, 0), Pose(0.5, 0.5, 0.2, 0))
    small, large = (shown(frame).any(0).sum() for frame in draw(growing, 2.0, 4.0))
    assert (small, large) == (
        pytest.approx(1.4 * 11.2, abs=1.1),
        pytest.approx(1.4 * 16.8, abs=1.1),
    )


def test_the_dot_of_a_shape_turns_clockwise_from_the_top() -> None:
    spinning = film("circle", Pose(0.5, 0.5, 0.25, 0), Pose(0.5, 0.5, 0.25, 360))
    places = []
    for frame in draw(spinning, 2.0, 3.0, 4.0, 5.0):
        rows, columns = np.nonzero(frame.max(-1) < 60)
        places.append((columns.mean() + 0.5 - 56, rows.mean() + 0.5 - 56))
    far = 0.40 * 28
    assert np.allclose(places, [(0, -far), (far, 0), (0, far), (-far, 0)], atol=0.3)


def test_a_blinking_shape_is_bright_and_dim_by_turns() -> None:
    red = draw(film(blink_phase_s=0.5), 2.0, 2.4, 2.6, 3.4, 3.6, 4.4)[:, 60, 56, 1]
    dim = round(BACKGROUND + DIM_OPACITY * (40 - BACKGROUND))
    assert red.tolist() == [40, 40, dim, dim, 40, 40]


def test_an_event_is_drawn_over_a_distractor() -> None:
    video = film()
    grey = replace(video.events[0].sprite, rgb=(90, 90, 90), start_s=0.0, end_s=8.0)
    frames = draw(replace(video, distractors=(grey,)), 1.0, 3.0)
    assert frames[0, 60, 56].tolist() == [90, 90, 90]
    assert tuple(frames[1, 60, 56]) == RED


def test_a_frame_depends_on_its_instant_alone() -> None:
    video = sample_video(np.random.default_rng(3))
    times_s = np.arange(0, video.duration_s, 0.6)
    frames = render(video, times_s, size=40, noise_seed=4)
    assert frames.shape == (len(times_s), 40, 40, 3)
    assert frames.dtype == np.uint8
    order = np.random.default_rng(0).permutation(len(times_s))[:9]
    assert (render(video, times_s[order], size=40, noise_seed=4) == frames[order]).all()
    assert (render(video, times_s, size=40, noise_seed=5) != frames).mean() > 0.5


def test_noise_is_grey_new_in_every_frame_and_as_strong_as_said() -> None:
    noisy = replace(film(), events=(), background=(100, 0, 0), noise=6.0)
    one, other = draw(noisy, 0.0, 0.2)
    assert np.ptp(one, axis=-1).max() == 0
    assert one.mean() == pytest.approx(100, abs=0.3)
    assert one.std() == pytest.approx(6, rel=0.05)
    assert abs(np.corrcoef(one[..., 0].ravel(), other[..., 0].ravel())[0, 1]) < 0.05


def test_the_background_rises_to_the_right_and_downwards() -> None:
    video = replace(film(), events=(), background=(100, 20, -10))
    frame = draw(video, 0.0)[0, ..., 0]
    # A pixel's centre lies half a pixel inside: 100 -+ 20/2 -+ 10/2 up to a rounding.
    corners = [frame[0, 0], frame[0, -1], frame[-1, 0], frame[-1, -1]]
    assert np.allclose(corners, [95, 115, 85, 105], atol=1)


def test_too_small_frames_are_refused() -> None:
    with pytest.raises(InputError, match="size is 16 pixels; toy frames need at least 32"):
        draw(film(), 0.0, size=16)
