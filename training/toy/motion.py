"""How the shapes of the toy world move: the first and last pose of each action.

Knows neither colours nor the schedule of a film.

Every action is visible at one frame per second: a moving shape covers at least `LEAST_SPEED`
frame sides a second; a growing or shrinking one changes its diameter by 0.34 frame sides over
the event; a spinning one turns 30 to 44 degrees a second, below the 45 at which a square or a
cross would seem to turn the other way, and a dark dot shows it on a circle. A shape that does not
spin is nearly upright, so that it can be recognized in a frame of few pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SPEED = 0.04
"""Lowest speed of a moving shape, in frame sides per second."""
LONGEST_WAY = 0.64
"""Longest path of a moving shape, in frame sides."""
DIM_OPACITY = 0.4
"""Opacity of a blinking shape in its dim seconds."""

_SHORTEST_WAY = 0.4
_RADIUS = (0.15, 0.20)
_MOVING_RADIUS = (0.13, 0.17)
_SMALL, _LARGE = 0.08, 0.25  # radius before and after growing
_TILT_DEG = 10.0  # largest, of a shape that does not spin
_SPIN_DEG_PER_S = (30.0, 44.0)
_BORDER = 0.02  # frame sides kept free between a shape and the edge of the frame
_CLEARANCE = 0.02  # frame sides between two shapes that must not cover each other
_HEADINGS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True)
class Pose:
    """Position, size and orientation of a shape.

    Attributes:
        x: of the centre, in frame sides from the left.
        y: of the centre, in frame sides from the top.
        radius: of the circle around the shape, in frame sides.
        angle_deg: clockwise as seen, in degrees.
    """

    x: float
    y: float
    radius: float
    angle_deg: float


@dataclass(frozen=True, slots=True)
class ToySprite:
    """A shape that is visible in [start_s, end_s) and goes evenly from pose `first` to `last`.

    Attributes:
        shape: one of `captions.SHAPES`.
        rgb: its colour, 0 to 255.
        start_s: when it appears, in seconds.
        end_s: when it is gone, in seconds.
        first: pose at `start_s`.
        last: pose at `end_s`.
        blink_phase_s: None for a steady shape. A blinking one is bright for a second and dim for a
            second in turn, and starts at this time of the period; one frame a second shows every
            change.
    """

    shape: str
    rgb: tuple[int, int, int]
    start_s: float
    end_s: float
    first: Pose
    last: Pose
    blink_phase_s: float | None = None

    def poses(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows (x, y, radius, angle_deg, opacity) at N instants, (N, 5).

        The opacity is 0 while the shape is not visible.
        """
        share = ((times_s - self.start_s) / (self.end_s - self.start_s)).clip(0, 1)[:, None]
        first, last = (
            np.array([pose.x, pose.y, pose.radius, pose.angle_deg])
            for pose in (self.first, self.last)
        )
        opacity = np.ones_like(times_s)
        if self.blink_phase_s is not None:
            second = np.floor(times_s - self.start_s + self.blink_phase_s)
            opacity = np.where(second % 2 == 0, 1.0, DIM_OPACITY)
        opacity = opacity * ((times_s >= self.start_s) & (times_s < self.end_s))
        return np.column_stack([first + share * (last - first), opacity])


def sample_motion(
    rng: np.random.Generator, action: str | None, direction: str | None, length_s: float
) -> tuple[Pose, Pose]:
    """Draw the first and last pose of a shape that does `action` for `length_s` seconds."""
    angle = rng.uniform(0, 360) if action == "spins" else rng.uniform(-_TILT_DEG, _TILT_DEG)
    if action == "moves" and direction is not None:
        return _sample_move(rng, _HEADINGS[direction], angle, length_s)
    if action in ("grows", "shrinks"):
        x, y = _place(rng, _LARGE), _place(rng, _LARGE)
        small, large = Pose(x, y, _SMALL, angle), Pose(x, y, _LARGE, angle)
        return (small, large) if action == "grows" else (large, small)
    radius = rng.uniform(*_RADIUS)
    x, y = _place(rng, radius), _place(rng, radius)
    turn = 0.0
    if action == "spins":
        speed = rng.uniform(*_SPIN_DEG_PER_S)
        turn = length_s * (speed if direction == "clockwise" else -speed)
    return Pose(x, y, radius, angle), Pose(x, y, radius, angle + turn)


def sample_drift(rng: np.random.Generator, *, moving: bool) -> tuple[Pose, Pose]:
    """Draw the first and last pose of a distractor, which rests or moves in any direction."""
    radius = rng.uniform(*_MOVING_RADIUS)
    angle = rng.uniform(0, 360)
    first = Pose(_place(rng, radius), _place(rng, radius), radius, angle)
    last = Pose(_place(rng, radius), _place(rng, radius), radius, angle)
    return first, (last if moving else first)


def clear_of(one: ToySprite, other: ToySprite, *, fps: int) -> bool:
    """Return whether two sprites never cover each other in any of `fps` frames a second."""
    start_s, end_s = max(one.start_s, other.start_s), min(one.end_s, other.end_s)
    if start_s >= end_s:
        return True
    times_s = np.arange(round(start_s * fps), round(end_s * fps)) / fps
    mine, theirs = one.poses(times_s), other.poses(times_s)
    distance = np.hypot(*(mine[:, :2] - theirs[:, :2]).T)
    return bool(np.all(distance >= mine[:, 2] + theirs[:, 2] + _CLEARANCE))


def _sample_move(
    rng: np.random.Generator, heading: tuple[int, int], angle: float, length_s: float
) -> tuple[Pose, Pose]:
    radius = rng.uniform(*_MOVING_RADIUS)
    longest = min(LONGEST_WAY, 1 - 2 * (radius + _BORDER))
    way = rng.uniform(min(max(_SHORTEST_WAY, LEAST_SPEED * length_s), longest), longest)
    dx, dy = heading
    x, y = (_place(rng, radius, way * step) for step in heading)
    return Pose(x, y, radius, angle), Pose(x + way * dx, y + way * dy, radius, angle)


def _place(rng: np.random.Generator, radius: float, way: float = 0.0) -> float:
    """Draw a coordinate from which a shape can move `way` frame sides within the frame."""
    low, high = radius + _BORDER, 1 - radius - _BORDER
    return float(rng.uniform(low - min(way, 0), high - max(way, 0)))
