"""Pre-training of a toy model's vision encoder and compressor, before answers are learned.

The full model's vision encoder and compressor are pre-trained on images with captions. A toy
model's are random, and learn hardly anything through a language model that is random too. They are
trained here on single frames with known shapes: first the encoder, from whose patches a linear head
predicts the shape that covers each; then, on the trained encoder, the compressor, from whose one
token for a frame heads predict each colour's shape and pose, what the question names, and whether
that is visible. The heads are discarded afterwards. Knows neither times nor answers.
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
"""Called with the number of each step and its losses."""

_SLOT = 1 + len(SHAPES) + POSE
_OPEN_SHARE, _SHOWN_SHARE, _ALIKE_SHARE = 0.5, 0.65, 0.6
_CAPTIONING_SHARE = 0.6  # of the open questions
_GROUNDING_SHARE, _ACTION_SHARE = 0.6, 0.3  # of those that name something; the rest are tal
_HUBER = 0.2
_CLIP_NORM = 2.0
_BACKGROUND_WEIGHT = 0.3
"""Most patches show only background, which is easily recognized."""
_EDGE = 0.03  # added to a radius (frame from -1 to 1), for patches that a shape reaches into


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
    """Train `model.vision` in place, in float32, to encode what covers every patch.

    Args:
        model: to train.
        pixels: (N, 3, S, S) uint8 frames.
        seen: what they show; frames with two shapes of one colour are left out.
        steps: optimizer steps.
        batch_size: frames of a step.
        learning_rate: at its peak.
        seed: of batches and of the head's weights.
        on_step: called after each step.
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
    """What covers the P patches of N frames, row by row.

    Attributes:
        colour: (N, P) index in `COLORS`; 6 for background.
        shape: (N, P) index in `SHAPES`.
        pose: (N, P, 6) as in `SeenShapes`, but x and y relative to the patch, in half sides.
    """

    colour: Tensor
    shape: Tensor
    pose: Tensor


def patches_of(seen: SeenShapes, side: int) -> SeenPatches:
    """Return what covers each of side x side patches; no frame may show a colour twice."""
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


def patch_losses(predicted: Tensor, patches: SeenPatches) -> dict[str, Tensor]:
    """Return the weighted losses of predictions (N, P, 7 + 4 + 6), by name."""
    colours, shapes = len(COLORS) + 1, len(SHAPES)
    covered = patches.colour < len(COLORS)
    weight = torch.ones(colours)
    weight[-1] = _BACKGROUND_WEIGHT
    colour, shape, pose = torch.split(predicted, [colours, shapes, POSE], dim=-1)
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
    """Train `model.compressor` in place, in float32, on patch features of `model.vision`.

    Args:
        model: with a trained vision encoder.
        patches: (N, P, width) features of any floating type.
        seen: what the frames show.
        steps: optimizer steps.
        batch_size: frames of a step.
        learning_rate: at its peak.
        seed: of batches, questions and the heads' weights.
        on_step: called with the number of each step and its losses.
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
    """A model's compressor, with heads that predict colours and what the question names."""

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
        """Return predictions (N, 6, 11) for the colours and (N, 16) for what the questions name.

        Args:
            patches: (N, P, width) features.
            question_ids: (N, Q) in the ids of the Q-Former's tokenizer.
            question_mask: (N, Q) bool, true at tokens.
        """
        predicted = self.heads(self.compressor(patches, question_ids, question_mask))
        split = len(COLORS) * _SLOT
        return predicted[:, :split].reshape(-1, len(COLORS), _SLOT), predicted[:, split:]


def fit(
    parameters: Iterable[nn.Parameter],
    losses: Callable[[], dict[str, Tensor]],
    *,
    steps: int,
    learning_rate: float,
    on_step: OnStep | None,
) -> None:
    """Minimize the sum of losses with AdamW, warm-up and cosine decay.

    Args:
        parameters: to train.
        losses: draws a batch and returns its losses by name.
        steps: optimizer steps, with the learning rate `learning_rate` at its peak.
        on_step: called after each step.
    """
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.99))
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / warmup) * (1.02 + math.cos(math.pi * step / steps)) / 2.02,
    )
    for step in range(1, steps + 1):
        found = losses()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(found.values()))
        nn.utils.clip_grad_norm_(trained, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, {name: float(loss.detach()) for name, loss in found.items()})


@dataclass(frozen=True)
class Asked:
    """Questions about N frames.

    Attributes:
        ids: (N, Q) in the ids of the Q-Former's tokenizer.
        mask: (N, Q) bool, true at tokens.
        colour: (N,) index of the colour that a question names; -1 if it names no shape.
        there: (N,) float32, 1 where the frame shows what the question names.
        action: (N,) index in `ACTION_PHRASES` of the action it names; -1 if it names none.
    """

    ids: Tensor
    mask: Tensor
    colour: Tensor
    there: Tensor
    action: Tensor


def ask(model: D2VLM, shapes: SeenShapes, rng: np.random.Generator) -> Asked:
    """Draw a question for each frame: an open one, or one about what is visible, or is not."""
    assert model.tokenizers is not None
    texts, colours, there, actions = [], [], [], []
    for present, shape in zip(shapes.present.tolist(), shapes.shape.tolist(), strict=True):
        clear = [c for c, kind in enumerate(shape) if kind >= 0]
        named = _named(clear, shape, rng)
        text = _open_question(rng) if named is None else _naming_question(named, rng)
        texts.append(text)
        asked = facts(text)
        does = asked.action_phrase
        actions.append(ACTION_PHRASES.index(does) if does in ACTION_PHRASES else -1)
        if asked.color is None or asked.shape is None:
            colours.append(-1)
            there.append(0.0)
            continue
        colour, kind = COLORS.index(asked.color), SHAPES.index(asked.shape)
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
    """Return a question that asks for an event, or for all events of a kind."""
    kind = rng.random()
    if kind < _GROUNDING_SHARE:
        return grounding_question(named.caption)
    by_action = kind < _GROUNDING_SHARE + _ACTION_SHARE
    return localization_question(named.action_phrase if by_action else named.caption)


def _open_question(rng: np.random.Generator) -> str:
    """Draw a question of another kind, most often for all captions."""
    if rng.random() < _CAPTIONING_SHARE:
        return captioning_question()
    return str(rng.choice(other_questions(sample_facts(rng))))


def _named(clear: Sequence[int], shape: Sequence[int], rng: np.random.Generator) -> Facts | None:
    """Draw facts to ask for, None for an open question; absent ones often share a fact."""
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
    predicted: tuple[Tensor, Tensor], shapes: SeenShapes, asked: Asked
) -> dict[str, Tensor]:
    """Return the weighted losses, by name: of each colour, and of what the question names."""
    places, named = predicted
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
