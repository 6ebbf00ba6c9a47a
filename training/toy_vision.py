"""Teaches the vision part of a toy model to see, before it learns to answer.

The full model's vision encoder and compressor come trained on images and their captions. A toy
model has neither, and finds them hardly at all through a language model that is random itself. So
they learn here from single frames of toy films, in which every shape is known: the frame token of
the question must tell each colour's shape and pose, and whether what the question names is there.
The heads that read this off are thrown away. Knows nothing of times and of answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vidground.modeling import D2VLM
from vidground.preprocessing import normalize
from vidground.prompts import captioning_question, grounding_question
from vidground.training.toy_captions import COLORS, SHAPES, Facts, sample_facts
from vidground.training.toy_world import ToyVideo

_POSE = 6
"""Numbers of a pose: x, y, radius, cosine and sine of the angle, opacity."""
_SLOT = 1 + len(SHAPES) + _POSE
_OPEN_SHARE, _SHOWN_SHARE, _ALIKE_SHARE = 0.3, 0.65, 0.6
_HUBER = 0.2
_CLIP_NORM = 2.0


@dataclass(frozen=True)
class SeenShapes:
    """What is to be seen in N frames, by colour: a frame has six places, one for each colour.

    present: (N, 6) float32, 1 where a shape of that colour is there. shape: (N, 6) its index in
    `SHAPES`; -1 where there is none or there are two. pose: (N, 6, 6) float32: x and y from -1 to
    1, the radius around 0, cosine and sine of the angle, opacity.
    """

    present: Tensor
    shape: Tensor
    pose: Tensor

    def __getitem__(self, frames: Tensor) -> SeenShapes:
        """Those of some frames, (B,) indices."""
        return SeenShapes(self.present[frames], self.shape[frames], self.pose[frames])


def shapes_in(video: ToyVideo, times_s: NDArray[np.float64]) -> SeenShapes:
    """The coloured shapes at N instants of a film."""
    count, colours = len(times_s), len(COLORS)
    present = np.zeros((count, colours), np.float32)
    shape = np.full((count, colours), -1)
    pose = np.zeros((count, colours, _POSE), np.float32)
    for event in video.events:
        colour = COLORS.index(str(event.facts.color))
        x, y, radius, angle, opacity = event.sprite.poses(times_s).T
        there = opacity > 0
        turn = np.radians(angle)
        posed = (2 * x - 1, 2 * y - 1, (radius - 0.16) * 8, np.cos(turn), np.sin(turn), opacity)
        first = there & (present[:, colour] == 0)
        shape[there, colour] = -1  # two of one colour: neither is told
        shape[first, colour] = SHAPES.index(str(event.facts.shape))
        pose[first, colour] = np.stack(posed, axis=1)[first]
        present[there, colour] = 1
    return SeenShapes(*(torch.from_numpy(values) for values in (present, shape, pose)))


class VisionTeacher(nn.Module):
    """A model's vision encoder and compressor, with heads that read frame tokens off.

    heads: what is seen of each colour, and of what the question names.
    """

    def __init__(self, model: D2VLM) -> None:
        super().__init__()
        self.vision, self.compressor = model.vision, model.compressor
        width = model.config.text_config.hidden_size
        self.heads = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, len(COLORS) * _SLOT + 1 + _POSE)
        )

    def forward(
        self, pixels: Tensor, question_ids: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) uint8 frames and (N, Q) questions to (N, 6, 11) and (N, 7) readings."""
        frames = normalize(pixels, dtype=torch.float32, device=pixels.device)
        read = self.heads(self.compressor(self.vision(frames), question_ids, question_mask))
        split = len(COLORS) * _SLOT
        return read[:, :split].reshape(-1, len(COLORS), _SLOT), read[:, split:]


@dataclass(frozen=True)
class Asked:
    """Questions about N frames.

    ids, mask: (N, Q). colour: (N,) index of the colour it names, -1 where it names nothing.
    there: (N,) float32, 1 where what it names is in the frame.
    """

    ids: Tensor
    mask: Tensor
    colour: Tensor
    there: Tensor


def train_vision(
    model: D2VLM,
    pixels: Tensor,
    seen: SeenShapes,
    *,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train `model.vision` and `model.compressor` in place; float32, with AdamW.

    Args:
        pixels: (N, 3, S, S) uint8 frames. seen: what is in them.
        on_step: told the number of each step and its losses.
    """
    rng = np.random.default_rng(seed)
    teacher = VisionTeacher(model).train()
    parameters = list(teacher.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99))
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / warmup) * (1.02 + math.cos(math.pi * step / steps)) / 2.02,
    )
    for step in range(1, steps + 1):
        drawn = torch.from_numpy(rng.integers(0, len(pixels), batch_size))
        shapes = seen[drawn]
        asked = ask(model, shapes, rng)
        losses = vision_losses(teacher(pixels[drawn], asked.ids, asked.mask), shapes, asked)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(losses.values()))
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, {name: float(loss.detach()) for name, loss in losses.items()})


def ask(model: D2VLM, shapes: SeenShapes, rng: np.random.Generator) -> Asked:
    """A question for each frame: about nothing in particular, what is there, or what is not."""
    assert model.tokenizers is not None
    texts, colours, there = [], [], []
    for present, shape in zip(shapes.present.tolist(), shapes.shape.tolist(), strict=True):
        clear = [c for c, kind in enumerate(shape) if kind >= 0]
        named = _named(clear, shape, rng)
        if named is None:
            texts.append(captioning_question())
            colours.append(-1)
            there.append(0.0)
            continue
        colour, kind = COLORS.index(str(named.color)), SHAPES.index(str(named.shape))
        texts.append(grounding_question(named.caption))
        unclear = present[colour] > 0 and shape[colour] < 0
        colours.append(-1 if unclear else colour)
        there.append(float(shape[colour] == kind))
    ids = [torch.tensor(model.tokenizers.question_ids(text)) for text in texts]
    return Asked(
        ids=nn.utils.rnn.pad_sequence(ids, batch_first=True),
        mask=nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True).bool(),
        colour=torch.tensor(colours),
        there=torch.tensor(there),
    )


def _named(clear: Sequence[int], shape: Sequence[int], rng: np.random.Generator) -> Facts | None:
    """Facts to ask for; None for an open question. Absent ones often share a fact with a shape."""
    if rng.random() < _OPEN_SHARE:
        return None
    facts = sample_facts(rng)
    if not clear:
        return facts
    colour = clear[int(rng.integers(len(clear)))]
    color, kind = COLORS[colour], SHAPES[shape[colour]]
    if rng.random() < _SHOWN_SHARE:
        return Facts(color, kind, facts.action, facts.direction)
    if rng.random() < _ALIKE_SHARE:
        keeps_color = rng.random() < 0.5
        return Facts(
            color if keeps_color else facts.color,
            facts.shape if keeps_color else kind,
            facts.action,
            facts.direction,
        )
    return facts


def vision_losses(
    read: tuple[Tensor, Tensor], shapes: SeenShapes, asked: Asked
) -> dict[str, Tensor]:
    """Weighted losses of readings, by name: of every colour's place and of what was asked for."""
    places, named = read
    clear = shapes.shape >= 0
    asks = asked.colour >= 0
    found = asked.there > 0
    pose = shapes.pose[torch.arange(len(named)), asked.colour.clamp(min=0)]
    huber = functional.smooth_l1_loss
    return {
        "presence": 3 * _binary(places[..., 0], shapes.present),
        "shape": 3
        * functional.cross_entropy(places[..., 1 : 1 + len(SHAPES)][clear], shapes.shape[clear]),
        "pose": 3 * huber(places[..., 1 + len(SHAPES) :][clear], shapes.pose[clear], beta=_HUBER),
        "asked": _binary(named[asks, 0], asked.there[asks]),
        "asked_pose": 2 * huber(named[found, 1:], pose[found], beta=_HUBER),
    }


def _binary(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets)
