"""Teaches a toy model's language model to follow what shapes do, before it learns to speak of it.

The full model's language model comes trained, a toy model's is random. So its first layers, those
up to the evidence memory, learn here from films in which every event is known: the state of each
frame must tell what each colour's shape is and does, where it was a second before and after, how
many events began earlier, and whether what the question names is there and does what it says.
Vision encoder and compressor stay as they are; the head that reads this off is thrown away. Knows
nothing of answers.
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

_UNTOLD = -100
"""A number that no loss is taken of, as NaN is where numbers are not whole."""
_FRAMES = 640
"""Of a batch, about: as many short films as fit, or few long ones."""
_BACKWARDS = {
    "moves left": "moves right",
    "moves up": "moves down",
    "grows": "shrinks",
    "spins clockwise": "spins counterclockwise",
}
_REVERSED = _BACKWARDS | {after: before for before, after in _BACKWARDS.items()}
_EVENTS = 4
"""Of a film, whose order is told."""
_READ = {
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
"""What is read off a frame's state, see `WatchedFilm.told`, and the numbers that takes."""
_WEIGHTS = {"around": 3.0, "going_on": 3.0, "matches": 2.0}
"""Of losses, where not 1. That of the poses before and after must be felt early: what a shape
does follows from them, and without them directions stay at chance."""
_HUBER = 0.2


@dataclass(frozen=True)
class WatchedFilm:
    """The T frames of a film, as a question's frame tokens, and what they show.

    tokens: (T, H). seen: the shapes in each frame. phrase: (T, 6) index of what each colour's
    shape does in `ACTION_PHRASES`, -100 where nothing is there, or two shapes of one colour.
    going_on: (T, 9) float32, 1 for what any shape does. event: (T, 6) index of the event that it is
    in `spans_s`, which are their times. asked: what the question names.
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
        """The film run backwards, in which what moved left moves right."""
        table = torch.tensor(
            [ACTION_PHRASES.index(_REVERSED.get(phrase, phrase)) for phrase in ACTION_PHRASES]
        )
        back = torch.arange(len(self) - 1, -1, -1)
        turned = torch.where(self.phrase >= 0, table[self.phrase.clamp(min=0)], _UNTOLD)
        return WatchedFilm(
            self.tokens[back],
            self.seen[back],
            turned[back],
            self.going_on[:, table][back],
            self.event[back],
            tuple((-end_s, -start_s) for start_s, end_s in self.spans_s),
            self.asked,
        )

    def told(self) -> dict[str, Tensor]:
        """What each frame's state must tell; -100 and NaN where there is nothing to tell.

        present (T, 6): whether a colour is there. shape, phrase (T, 6): its indices. around
        (T, 6, 12): its poses a second before and a second after. order (T, 6): how many events
        began before its own. going_on (T, 9). asked (T,): whether the shape that the question
        names is there. asked_phrase (T,): the index of what it does. matches (T,): whether that is
        what the question says; if it names no shape, whether any shape does what it says.
        """
        clear = self.seen.shape >= 0
        pose = self.seen.pose.masked_fill(~clear[..., None], torch.nan)
        nowhere = torch.full_like(pose[:1], torch.nan)
        return {
            "present": self.seen.present,
            "shape": self.seen.shape.masked_fill(~clear, _UNTOLD),
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
        order = torch.where(self.event >= 0, rank[self.event.clamp(min=0)], _UNTOLD)
        return order.masked_fill(order >= _EVENTS, _UNTOLD)

    def _asked(self) -> dict[str, Tensor]:
        named = self.asked or Facts(None, None, None, None)
        there = torch.full((len(self),), torch.nan)
        doing = torch.full((len(self),), _UNTOLD)
        matches = there
        says = named.action_phrase in ACTION_PHRASES
        does = ACTION_PHRASES.index(named.action_phrase) if says else 0
        if named.color is not None and named.shape is not None:
            colour, shape = COLORS.index(named.color), SHAPES.index(named.shape)
            found = self.seen.shape[:, colour] == shape
            unclear = (self.seen.present[:, colour] > 0) & (self.seen.shape[:, colour] < 0)
            there = found.float().masked_fill(unclear, torch.nan)
            doing = self.phrase[:, colour].masked_fill(~found, _UNTOLD)
            matches = (doing == does).float().masked_fill(unclear, torch.nan) if says else matches
        elif says:
            matches = self.going_on[:, does]
        return {"asked": there, "asked_phrase": doing, "matches": matches}


def watched(video: ToyVideo, tokens: Tensor, asked: Facts | None = None) -> WatchedFilm:
    """The events of a film that is seen once a second.

    tokens: (T, H) frame tokens of the captioning question, or of one that names `asked`, be it a
        shape, an action, or both.
    """
    times_s = np.arange(len(tokens), dtype=np.float64)
    seen = shapes_in(video, times_s)
    phrase = torch.full((len(tokens), len(COLORS)), _UNTOLD)
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
        phrase=phrase.masked_fill(unclear, _UNTOLD),
        going_on=going_on,
        event=number.masked_fill(unclear, _UNTOLD),
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
        films: sets of films of like length; a batch is of one set, each set drawn equally often,
            and a film is run forwards or backwards.
    """
    rng = np.random.default_rng(seed)
    layer = model.config.evidence_layer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = model.config.text_config.hidden_size
        head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, sum(_size(name) for name in _READ))
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
    """(B, T, H) evidence memory of films, behind the text that stands before them in a prompt."""
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


def _losses(read: Tensor, films: Sequence[WatchedFilm]) -> dict[str, Tensor]:
    """Weighted losses of (B, T, numbers of `_READ`) readings, by name."""
    told = [film.told() for film in films]
    readings = torch.split(read, [_size(name) for name in _READ], dim=-1)
    losses = {}
    for (name, shape), numbers in zip(_READ.items(), readings, strict=True):
        reading = numbers.reshape(*numbers.shape[:2], *shape)
        loss = _compared(name, reading, [targets[name] for targets in told])
        losses[name] = _WEIGHTS.get(name, 1.0) * loss
    return losses


def _size(name: str) -> int:
    return int(np.prod(_READ[name]))


def _compared(name: str, reading: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Mean loss of a reading where there is something to tell; 0 where there is nothing."""
    whole = not targets[0].is_floating_point()
    untold = _UNTOLD if whole else torch.nan
    target = pad_sequence(list(targets), batch_first=True, padding_value=untold)
    told = target >= 0 if whole else ~target.isnan()
    if not told.any():
        return reading.sum() * 0.0
    if whole:
        return functional.cross_entropy(reading[told], target[told])
    if name == "around":
        return functional.smooth_l1_loss(reading[told], target[told], beta=_HUBER)
    return functional.binary_cross_entropy_with_logits(reading[told], target[told])
