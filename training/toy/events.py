"""Pre-training of a toy model's language model: what shapes do, before answers are learned.

The full model's language model is pre-trained; a toy model's is random. Its first layers, up to the
evidence memory, are trained here on films with known events: from the state of each frame, a linear
head predicts each colour's shape and action, its pose a second before and after, how many events
began earlier, and whether what the question names is there and does what it says. Vision encoder
and compressor are frozen; the head is discarded afterwards. Knows no answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.d2vlm import D2VLM
from vidground.training.toy.captions import ACTION_PHRASES, COLORS, SHAPES, Facts
from vidground.training.toy.stills import POSE, SeenShapes, shapes_in
from vidground.training.toy.vision import OnStep, fit
from vidground.training.toy.world import ToyVideo

_IGNORED = -100
"""Class index without a loss; NaN has this role in floating-point targets."""
_FRAMES = 640
"""Approximate frames of a batch: many short films, or few long ones."""
_BACKWARDS = {
    "moves left": "moves right",
    "moves up": "moves down",
    "grows": "shrinks",
    "spins clockwise": "spins counterclockwise",
}
_REVERSED = _BACKWARDS | {after: before for before, after in _BACKWARDS.items()}
_EVENTS = 4
"""Events of a film whose order is predicted."""
_PREDICTED = {
    "present": (len(COLORS),),
    "shape": (len(COLORS), len(SHAPES)),
    "phrase": (len(COLORS), len(ACTION_PHRASES)),
    "around": (len(COLORS), 2 * POSE),
    "order": (len(COLORS), _EVENTS),
    "going_on": (len(ACTION_PHRASES),),
    "asked": (),
    "asked_phrase": (len(ACTION_PHRASES),),
    "matches": (),
}
"""What is predicted from a frame's state (see `WatchedFilm.targets`), and the shape of it."""
_WEIGHTS = {"around": 3.0, "going_on": 3.0, "matches": 2.0}
"""Weights of losses other than 1. That of the poses before and after must count early: what a shape
does follows from them, and without them directions stay at chance."""
_HUBER = 0.2


@dataclass(frozen=True)
class WatchedFilm:
    """The T frames of a film, as frame tokens of a question, and what they show.

    Attributes:
        tokens: (T, H) frame tokens.
        seen: the shapes in each frame.
        phrase: (T, 6) index in `ACTION_PHRASES` of what each colour's shape does; -100 where there
            is no shape of this colour, or two.
        going_on: (T, 9) float32, 1 for each action phrase that any shape carries out.
        event: (T, 6) index in `spans_s` of the event of each colour's shape, or -100.
        spans_s: start and end of the events, in seconds.
        asked: what the question names; None for a question that names nothing.
    """

    tokens: Tensor
    seen: SeenShapes
    phrase: Tensor
    going_on: Tensor
    event: Tensor
    spans_s: tuple[tuple[float, float], ...]
    asked: Facts | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def reversed(self) -> WatchedFilm:
        """Return the film run backwards: what moved left moves right."""
        table = torch.tensor(
            [ACTION_PHRASES.index(_REVERSED.get(phrase, phrase)) for phrase in ACTION_PHRASES]
        )
        back = torch.arange(len(self) - 1, -1, -1)
        turned = torch.where(self.phrase >= 0, table[self.phrase.clamp(min=0)], _IGNORED)
        return WatchedFilm(
            self.tokens[back],
            self.seen[back],
            turned[back],
            self.going_on[:, table][back],
            self.event[back],
            tuple((-end_s, -start_s) for start_s, end_s in self.spans_s),
            self.asked,
        )

    def targets(self) -> dict[str, Tensor]:
        """Return what is to be predicted from each frame; -100 and NaN where nothing is.

        Returns:
            present (T, 6): whether a shape of each colour is there. shape, phrase (T, 6): its
            indices. around (T, 6, 12): its poses a second before and a second after. order (T, 6):
            how many events began before its own. going_on (T, 9). asked (T,): whether the shape
            that the question names is there. asked_phrase (T,): the index of what it does. matches
            (T,): whether that is what the question says; if the question names no shape, whether
            any shape does what it says.
        """
        clear = self.seen.shape >= 0
        pose = self.seen.pose.masked_fill(~clear[..., None], torch.nan)
        nowhere = torch.full_like(pose[:1], torch.nan)
        return {
            "present": self.seen.present,
            "shape": self.seen.shape.masked_fill(~clear, _IGNORED),
            "phrase": self.phrase,
            "around": torch.cat(
                (torch.cat((nowhere, pose[:-1])), torch.cat((pose[1:], nowhere))), dim=-1
            ),
            "order": self._order(),
            "going_on": self.going_on,
            **self._asked(),
        }

    def _order(self) -> Tensor:
        rank = torch.tensor([sorted(self.spans_s).index(span) for span in self.spans_s])
        order = torch.where(self.event >= 0, rank[self.event.clamp(min=0)], _IGNORED)
        return order.masked_fill(order >= _EVENTS, _IGNORED)

    def _asked(self) -> dict[str, Tensor]:
        named = self.asked or Facts(None, None, None, None)
        there = torch.full((len(self),), torch.nan)
        doing = torch.full((len(self),), _IGNORED)
        matches = there
        says = named.action_phrase in ACTION_PHRASES
        does = ACTION_PHRASES.index(named.action_phrase) if says else 0
        if named.color is not None and named.shape is not None:
            colour, shape = COLORS.index(named.color), SHAPES.index(named.shape)
            found = self.seen.shape[:, colour] == shape
            unclear = (self.seen.present[:, colour] > 0) & (self.seen.shape[:, colour] < 0)
            there = found.float().masked_fill(unclear, torch.nan)
            doing = self.phrase[:, colour].masked_fill(~found, _IGNORED)
            matches = (doing == does).float().masked_fill(unclear, torch.nan) if says else matches
        elif says:
            matches = self.going_on[:, does]
        return {"asked": there, "asked_phrase": doing, "matches": matches}


def watched(video: ToyVideo, tokens: Tensor, asked: Facts | None = None) -> WatchedFilm:
    """Return a film, sampled once a second, with its events.

    Args:
        video: the film.
        tokens: (T, H) frame tokens of the captioning question, or of one that names `asked`.
        asked: a shape, an action, or both.
    """
    times_s = np.arange(len(tokens), dtype=np.float64)
    seen = shapes_in(video, times_s)
    phrase = torch.full((len(tokens), len(COLORS)), _IGNORED)
    number = phrase.clone()
    going_on = torch.zeros(len(tokens), len(ACTION_PHRASES))
    for index, event in enumerate(video.events):
        there = torch.from_numpy((times_s >= event.start_s) & (times_s < event.end_s))
        colour = COLORS.index(str(event.facts.color))
        does = ACTION_PHRASES.index(event.facts.action_phrase)
        phrase[there, colour], number[there, colour] = does, index
        going_on[there, does] = 1.0
    unclear = seen.shape < 0
    return WatchedFilm(
        tokens=tokens,
        seen=seen,
        phrase=phrase.masked_fill(unclear, _IGNORED),
        going_on=going_on,
        event=number.masked_fill(unclear, _IGNORED),
        spans_s=tuple((event.start_s, event.end_s) for event in video.events),
        asked=asked,
    )


def train_events(
    model: D2VLM,
    films: Sequence[Sequence[WatchedFilm]],
    *,
    steps: int,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> None:
    """Train `model.language_model` up to its evidence layer in place, in float32.

    Args:
        model: with trained vision encoder and compressor.
        films: sets of films of similar length. A batch is of one set; each set is drawn equally
            often, and each film is run forwards or backwards at random.
        steps: optimizer steps.
        learning_rate: at its peak.
        seed: of batches and of the head's weights.
        on_step: called with the number of each step and its losses.
    """
    rng = np.random.default_rng(seed)
    layer = model.config.evidence_layer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = model.config.text_config.hidden_size
        head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, sum(_size(name) for name in _PREDICTED))
        )

    def losses() -> dict[str, Tensor]:
        of = films[int(rng.integers(len(films)))]
        count = max(1, round(_FRAMES / max(1.0, float(np.mean([len(f) for f in of[:64]])))))
        drawn = [of[int(i)] for i in rng.integers(0, len(of), count)]
        batch = [film.reversed() if rng.random() < 0.5 else film for film in drawn]
        return _losses(head(memory(model, [film.tokens for film in batch])), batch)

    layers = model.language_model.layers[:layer]
    parts = nn.ModuleList((model.get_input_embeddings(), layers, head)).train()
    fit(parts.parameters(), losses, steps=steps, learning_rate=learning_rate, on_step=on_step)


def memory(model: D2VLM, tokens: Sequence[Tensor]) -> Tensor:
    """Return the evidence memory of films, (B, T, H), after the text that precedes the frames."""
    assert model.tokenizers is not None
    before = encode_prompt(chat_prompt(captioning_question()), model.tokenizers).before
    start, films = len(before), len(tokens)
    text = model.get_input_embeddings()(torch.tensor(before)).expand(films, -1, -1)
    embeds = torch.cat((text, pad_sequence(list(tokens), batch_first=True)), dim=1)
    length = embeds.shape[1]
    position = torch.arange(length)
    real = position < torch.tensor([[start + len(film)] for film in tokens])
    earlier = position[None, :] <= position[:, None]
    among_frames = (position[None, :] >= start) & (position[:, None] >= start)
    itself = torch.eye(length, dtype=torch.bool)
    visible = ((earlier | among_frames) & real[:, None, :]) | itself
    context = model.context(position.expand(films, -1), visible)
    return model.run_layers(embeds, 0, model.config.evidence_layer, context)[:, start:]


def _losses(predicted: Tensor, films: Sequence[WatchedFilm]) -> dict[str, Tensor]:
    """Return the weighted losses of predictions (B, T, numbers of `_PREDICTED`), by name."""
    targets = [film.targets() for film in films]
    parts = torch.split(predicted, [_size(name) for name in _PREDICTED], dim=-1)
    losses = {}
    for (name, shape), numbers in zip(_PREDICTED.items(), parts, strict=True):
        part = numbers.reshape(*numbers.shape[:2], *shape)
        loss = _loss(name, part, [of_film[name] for of_film in targets])
        losses[name] = _WEIGHTS.get(name, 1.0) * loss
    return losses


def _size(name: str) -> int:
    return int(np.prod(_PREDICTED[name]))


def _loss(name: str, predicted: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Return the mean loss over all positions with a target; 0 if there are none."""
    is_class = not targets[0].is_floating_point()
    padding = _IGNORED if is_class else torch.nan
    target = pad_sequence(list(targets), batch_first=True, padding_value=padding)
    used = target >= 0 if is_class else ~target.isnan()
    if not used.any():
        return predicted.sum() * 0.0
    if is_class:
        return functional.cross_entropy(predicted[used], target[used])
    if name == "around":
        return functional.smooth_l1_loss(predicted[used], target[used], beta=_HUBER)
    return functional.binary_cross_entropy_with_logits(predicted[used], target[used])
