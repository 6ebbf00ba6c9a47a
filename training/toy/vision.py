"""Teaches the vision part of a toy model to see, before it learns to answer.

The full model's vision encoder and compressor come trained on images and their captions. A toy
model has neither, and finds them hardly at all through a language model that is random itself. So
they learn here from single frames in which every shape is known: first the encoder, whose every
patch must tell the shape that covers it; then, on the finished encoder, the compressor, whose one
token of a frame must tell each colour's shape and pose, what the question names, and whether that
is there. The heads that read this off are thrown away. Knows nothing of times and of answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidground.language.prompts import (
    captioning_question,
    grounding_question,
    localization_question,
)
from vidground.model.d2vlm import D2VLM
from vidground.training.toy.captions import (
    ACTION_PHRASES,
    COLORS,
    SHAPES,
    Facts,
    facts,
    sample_facts,
)
from vidground.training.toy.questions import other_questions
from vidground.training.toy.stills import POSE, RADIUS_SCALE, USUAL_RADIUS, SeenShapes
from vidground.video.preprocessing import normalize

OnStep = Callable[[int, dict[str, float]], None]
"""Told the number of each step and its losses."""

_SLOT = 1 + len(SHAPES) + POSE
_OPEN_SHARE, _SHOWN_SHARE, _ALIKE_SHARE = 0.5, 0.65, 0.6
_CAPTIONING_SHARE = 0.6  # of the open questions
_GROUNDING_SHARE, _ACTION_SHARE = 0.6, 0.3  # of those that name something; the rest name it to tal
_HUBER = 0.2
_CLIP_NORM = 2.0
_BACKGROUND_WEIGHT = 0.3
"""Most patches show nothing but background, which is easily told."""
_EDGE = 0.03  # beyond a shape's radius, from -1 to 1: patches that it reaches into


def train_encoder(
    model: D2VLM,
    pixels: Tensor,
    seen: SeenShapes,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> None:
    """Train `model.vision` in place, in float32: every patch tells what covers it.

    Args:
        pixels: (N, 3, S, S) uint8 frames. seen: what is in them. Frames with two shapes of one
            colour are left out.
    """
    rng = np.random.default_rng(seed)
    usable = seen.clear.nonzero().flatten()
    width = model.config.vision_config.hidden_size
    side = model.config.image_size // model.config.vision_config.patch_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(COLORS) + _SLOT))

    def losses() -> dict[str, Tensor]:
        drawn = usable[torch.from_numpy(rng.integers(0, len(usable), batch_size))]
        frames = normalize(pixels[drawn], dtype=torch.float32, device=pixels.device)
        return patch_losses(head(model.vision(frames)), patches_of(seen[drawn], side))

    parts = nn.ModuleList((model.vision, head)).train()
    fit(parts.parameters(), losses, steps=steps, learning_rate=learning_rate, on_step=on_step)


@dataclass(frozen=True)
class SeenPatches:
    """What covers N frames' patches, P each, row by row.

    colour: (N, P) its index in `COLORS`, their number where there is background. shape: (N, P).
    pose: (N, P, 6) as of `SeenShapes`, but x and y from the patch, in half sides.
    """

    colour: Tensor
    shape: Tensor
    pose: Tensor


def patches_of(seen: SeenShapes, side: int) -> SeenPatches:
    """What covers each of the side x side patches of frames without two shapes of one colour."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    pose = seen.pose
    across = pose[:, :, 0:1] - columns.flatten()  # (N, 6, P)
    down = pose[:, :, 1:2] - rows.flatten()
    radius = 2 * (pose[:, :, 2:3] / RADIUS_SCALE + USUAL_RADIUS)
    covered = (torch.hypot(across, down) < radius + _EDGE) & (seen.present[:, :, None] > 0)
    colour = torch.where(covered.any(1), covered.float().argmax(1), len(COLORS))
    of = colour.clamp(max=len(COLORS) - 1)
    frame = torch.arange(len(seen))[:, None]
    relative = torch.stack([2 * at.gather(1, of[:, None])[:, 0] for at in (across, down)], dim=-1)
    return SeenPatches(
        colour, seen.shape[frame, of], torch.cat((relative, pose[frame, of][..., 2:]), dim=-1)
    )


def patch_losses(read: Tensor, patches: SeenPatches) -> dict[str, Tensor]:
    """Weighted losses of (N, P, 7 + 4 + 6) readings, by name."""
    colours, shapes = len(COLORS) + 1, len(SHAPES)
    covered = patches.colour < len(COLORS)
    weight = torch.ones(colours)
    weight[-1] = _BACKGROUND_WEIGHT
    colour, shape, pose = torch.split(read, [colours, shapes, POSE], dim=-1)
    return {
        "colour": functional.cross_entropy(colour.flatten(0, 1), patches.colour.flatten(), weight),
        "shape": functional.cross_entropy(shape[covered], patches.shape[covered]),
        "pose": 2 * functional.smooth_l1_loss(pose[covered], patches.pose[covered], beta=_HUBER),
    }


def train_compressor(
    model: D2VLM,
    patches: Tensor,
    seen: SeenShapes,
    *,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> None:
    """Train `model.compressor` in place, in float32, on what `model.vision` makes of frames.

    Args:
        patches: (N, P, width) of any floating type. seen: what is in the frames.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = CompressorTeacher(model).train()

    def losses() -> dict[str, Tensor]:
        drawn = torch.from_numpy(rng.integers(0, len(patches), batch_size))
        shapes = seen[drawn]
        asked = ask(model, shapes, rng)
        return vision_losses(teacher(patches[drawn].float(), asked.ids, asked.mask), shapes, asked)

    fit(teacher.parameters(), losses, steps=steps, learning_rate=learning_rate, on_step=on_step)


class CompressorTeacher(nn.Module):
    """A model's compressor, with heads that read frame tokens off.

    heads: what is seen of each colour, and of what the question names.
    """

    def __init__(self, model: D2VLM) -> None:
        super().__init__()
        self.compressor = model.compressor
        width = model.config.text_config.hidden_size
        self.heads = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, len(COLORS) * _SLOT + 1 + POSE + len(ACTION_PHRASES)),
        )

    def forward(
        self, patches: Tensor, question_ids: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, P, width) patches and (N, Q) questions to (N, 6, 11) and (N, 16) readings."""
        read = self.heads(self.compressor(patches, question_ids, question_mask))
        split = len(COLORS) * _SLOT
        return read[:, :split].reshape(-1, len(COLORS), _SLOT), read[:, split:]


def fit(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[], dict[str, Tensor]],
    *,
    steps: int,
    learning_rate: float,
    on_step: OnStep | None,
) -> None:
    """Minimize the sum of losses, which draw their own batches; AdamW, warm-up and cosine."""
    learning = list(parameters)
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, betas=(0.9, 0.99))
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / warmup) * (1.02 + math.cos(math.pi * step / steps)) / 2.02,
    )
    for step in range(1, steps + 1):
        found = losses()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(found.values()))
        nn.utils.clip_grad_norm_(learning, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, {name: float(loss.detach()) for name, loss in found.items()})


@dataclass(frozen=True)
class Asked:
    """Questions about N frames.

    ids, mask: (N, Q). colour: (N,) index of the colour it names, -1 where it names no shape.
    there: (N,) float32, 1 where what it names is in the frame. action: (N,) index of what it
    names in `ACTION_PHRASES`, -1 where it names none.
    """

    ids: Tensor
    mask: Tensor
    colour: Tensor
    there: Tensor
    action: Tensor


def ask(model: D2VLM, shapes: SeenShapes, rng: np.random.Generator) -> Asked:
    """A question for each frame: about nothing in particular, what is there, or what is not."""
    assert model.tokenizers is not None
    texts, colours, there, actions = [], [], [], []
    for present, shape in zip(shapes.present.tolist(), shapes.shape.tolist(), strict=True):
        clear = [c for c, kind in enumerate(shape) if kind >= 0]
        named = _named(clear, shape, rng)
        text = _open_question(rng) if named is None else _naming_question(named, rng)
        texts.append(text)
        told = facts(text)
        does = told.action_phrase
        actions.append(ACTION_PHRASES.index(does) if does in ACTION_PHRASES else -1)
        if told.color is None or told.shape is None:
            colours.append(-1)
            there.append(0.0)
            continue
        colour, kind = COLORS.index(told.color), SHAPES.index(told.shape)
        unclear = present[colour] > 0 and shape[colour] < 0
        colours.append(-1 if unclear else colour)
        there.append(float(shape[colour] == kind))
    ids = [torch.tensor(model.tokenizers.question_ids(text)) for text in texts]
    return Asked(
        ids=nn.utils.rnn.pad_sequence(ids, batch_first=True),
        mask=nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True).bool(),
        colour=torch.tensor(colours),
        there=torch.tensor(there),
        action=torch.tensor(actions),
    )


def _naming_question(named: Facts, rng: np.random.Generator) -> str:
    """To find an event, or all of a kind."""
    kind = rng.random()
    if kind < _GROUNDING_SHARE:
        return grounding_question(named.caption)
    by_action = kind < _GROUNDING_SHARE + _ACTION_SHARE
    return localization_question(named.action_phrase if by_action else named.caption)


def _open_question(rng: np.random.Generator) -> str:
    """To describe the film, or one of all the other kinds."""
    if rng.random() < _CAPTIONING_SHARE:
        return captioning_question()
    return str(rng.choice(other_questions(sample_facts(rng))))


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
    named, action = torch.split(named, [1 + POSE, len(ACTION_PHRASES)], dim=-1)
    names_action = asked.action >= 0
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
        "asked_action": functional.cross_entropy(action[names_action], asked.action[names_action]),
    }


def _binary(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets)
