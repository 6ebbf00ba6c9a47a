"""Single frames of the toy world with known shapes, to pre-train the vision part on.

They come from films, or are drawn for the purpose: a crowded still shows more shapes at once than a
frame of a film. Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidground.training.toy.captions import COLORS, SHAPES, Facts
from vidground.training.toy.drawing import render
from vidground.training.toy.motion import Pose, ToySprite
from vidground.training.toy.world import ToyEvent, ToyVideo, sample_rgb

POSE = 6
"""Numbers of a pose: x, y, radius, cosine and sine of the angle, opacity."""
USUAL_RADIUS = 0.16
"""Radius of a shape, in frame sides, that is 0 in a pose."""
RADIUS_SCALE = 8.0

_CROWD = (3, 6)  # shapes of a crowded still, of one colour each
_RADII = ((0.08, 0.14), (0.13, 0.21))  # small as a growing shape begins, and usual ones
_SMALL_SHARE, _TURNED_SHARE, _DIM_SHARE = 0.3, 0.4, 0.15
_TILT_DEG = 10.0
_BORDER = 0.02
_TRIES = 20
_NOISE = 9.0
_LENGTH_S, _AT_S = 1.0, 0.25


@dataclass(frozen=True)
class SeenShapes:
    """What N frames show, for each of the six colours.

    Attributes:
        present: (N, 6) float32, 1 where a shape of this colour is visible.
        shape: (N, 6) its index in `SHAPES`; -1 where there is none, or there are two.
        pose: (N, 6, 6) float32: x and y from -1 to 1, the radius around 0, cosine and sine of the
            angle, opacity.
    """

    present: Tensor
    shape: Tensor
    pose: Tensor

    def __getitem__(self, frames: Tensor) -> SeenShapes:
        """Return some of the frames, by (B,) indices or (N,) bool."""
        return SeenShapes(self.present[frames], self.shape[frames], self.pose[frames])

    def __len__(self) -> int:
        return len(self.present)

    @property
    def clear(self) -> Tensor:
        """(N,) bool: frames without two shapes of one colour."""
        return ~((self.present > 0) & (self.shape < 0)).any(1)

    @classmethod
    def joined(cls, parts: Iterable[SeenShapes]) -> SeenShapes:
        """Return the frames of all parts, in order."""
        all_parts = list(parts)
        names = ("present", "shape", "pose")
        return cls(*(torch.cat([getattr(part, name) for part in all_parts]) for name in names))


def shapes_in(video: ToyVideo, times_s: NDArray[np.float64]) -> SeenShapes:
    """Return the coloured shapes at N instants of a film."""
    count, colours = len(times_s), len(COLORS)
    present = np.zeros((count, colours), np.float32)
    shape = np.full((count, colours), -1)
    pose = np.zeros((count, colours, POSE), np.float32)
    for event in video.events:
        colour = COLORS.index(str(event.facts.color))
        x, y, radius, angle, opacity = event.sprite.poses(times_s).T
        there = opacity > 0
        turn = np.radians(angle)
        size = (radius - USUAL_RADIUS) * RADIUS_SCALE
        posed = (2 * x - 1, 2 * y - 1, size, np.cos(turn), np.sin(turn), opacity)
        first = there & (present[:, colour] == 0)
        shape[there, colour] = -1  # two of one colour are ambiguous
        shape[first, colour] = SHAPES.index(str(event.facts.shape))
        pose[first, colour] = np.stack(posed, axis=1)[first]
        present[there, colour] = 1
    return SeenShapes(*(torch.from_numpy(values) for values in (present, shape, pose)))


def crowded_stills(count: int, *, seed: int, size: int) -> tuple[Tensor, SeenShapes]:
    """Draw stills, (count, 3, size, size) uint8, and return them with what they show."""
    rng = np.random.default_rng(seed)
    at = np.array([_AT_S])
    pixels, seen = [], []
    for _ in range(count):
        video = _crowd(rng)
        pixels.append(render(video, at, size=size, noise_seed=int(rng.integers(2**63)))[0])
        seen.append(shapes_in(video, at))
    frames = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return frames, SeenShapes.joined(seen)


def _crowd(rng: np.random.Generator) -> ToyVideo:
    """Draw a film of one instant: shapes of different colours that do not overlap."""
    events: list[ToyEvent] = []
    taken: list[Pose] = []
    for color in rng.permutation(COLORS)[: rng.integers(_CROWD[0], _CROWD[1] + 1)].tolist():
        pose = _free_pose(rng, taken)
        if pose is None:
            continue
        taken.append(pose)
        shape = str(rng.choice(SHAPES))
        phase_s = 1.0 if rng.random() < _DIM_SHARE else None  # dim in the first second
        sprite = ToySprite(shape, sample_rgb(rng, color), 0.0, _LENGTH_S, pose, pose, phase_s)
        events.append(ToyEvent(Facts(color, shape, "blinks", None), sprite))
    background = (rng.uniform(35, 85), rng.uniform(-25, 25), rng.uniform(-25, 25))
    return ToyVideo(_LENGTH_S, tuple(events), (), background, rng.uniform(0, _NOISE))


def _free_pose(rng: np.random.Generator, taken: list[Pose]) -> Pose | None:
    """Draw a pose that covers no other; None if no try succeeds."""
    radius = rng.uniform(*_RADII[int(rng.random() >= _SMALL_SHARE)])
    turned = rng.random() < _TURNED_SHARE
    angle = rng.uniform(0, 360) if turned else rng.uniform(-_TILT_DEG, _TILT_DEG)
    for _ in range(_TRIES):
        x, y = rng.uniform(radius + _BORDER, 1 - radius - _BORDER, 2)
        gaps = (np.hypot(x - p.x, y - p.y) - radius - p.radius for p in taken)
        if all(gap > _BORDER for gap in gaps):
            return Pose(float(x), float(y), float(radius), float(angle))
    return None
