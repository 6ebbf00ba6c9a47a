"""Teaches a toy model's language model to follow what shapes do, before it learns to speak of it.

The full model's language model comes trained, a toy model's is random. So its first layers, those
up to the evidence memory, learn here from films in which every event is known: the state of each
frame must tell what each colour's shape is and does. Vision encoder and compressor stay as they
are; the head that reads this off is thrown away. Knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from vidground.modeling import D2VLM
from vidground.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.training.toy_captions import ACTION_PHRASES, COLORS, SHAPES
from vidground.training.toy_vision import OnStep, fit
from vidground.training.toy_world import ToyVideo

_UNTOLD = -100
"""A place that no loss is taken of: nothing is there, or two shapes of one colour."""
_FRAMES = 640
"""Of a batch, about: as many short films as fit, or few long ones."""
_BACKWARDS = {
    "moves left": "moves right",
    "moves up": "moves down",
    "grows": "shrinks",
    "spins clockwise": "spins counterclockwise",
}
_REVERSED = _BACKWARDS | {after: before for before, after in _BACKWARDS.items()}


@dataclass(frozen=True)
class WatchedFilm:
    """What there is to be told of the T frames of a film, in six places, one for each colour.

    tokens: (T, H) frame tokens of the captioning question. phrase: (T, 6) index of what the shape
    does in `ACTION_PHRASES`. shape: (T, 6) its index in `SHAPES`. Both are -100 where nothing is
    there, or two shapes of one colour.
    """

    tokens: Tensor
    phrase: Tensor
    shape: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def reversed(self) -> WatchedFilm:
        """The film run backwards, in which what moves left moves right."""
        table = [ACTION_PHRASES.index(_REVERSED.get(p, p)) for p in ACTION_PHRASES]
        told = self.phrase >= 0
        phrase = torch.where(told, torch.tensor(table)[self.phrase.clamp(min=0)], _UNTOLD)
        return WatchedFilm(self.tokens.flip(0), phrase.flip(0), self.shape.flip(0))


def watched(video: ToyVideo, tokens: Tensor) -> WatchedFilm:
    """The events of a film that is seen once a second.

    tokens: (T, H) frame tokens of the captioning question.
    """
    times_s = np.arange(len(tokens), dtype=np.float64)
    phrase = torch.full((len(tokens), len(COLORS)), _UNTOLD)
    shape = phrase.clone()
    seen = torch.zeros_like(phrase)
    for event in video.events:
        there = torch.from_numpy((times_s >= event.start_s) & (times_s < event.end_s))
        colour = COLORS.index(str(event.facts.color))
        phrase[there, colour] = ACTION_PHRASES.index(event.facts.action_phrase)
        shape[there, colour] = SHAPES.index(str(event.facts.shape))
        seen[there, colour] += 1
    return WatchedFilm(
        tokens, phrase.masked_fill(seen > 1, _UNTOLD), shape.masked_fill(seen > 1, _UNTOLD)
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
        places = len(COLORS) * (len(ACTION_PHRASES) + len(SHAPES))
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, places))

    def losses() -> dict[str, Tensor]:
        of = films[int(rng.integers(len(films)))]
        count = max(1, round(_FRAMES / max(1.0, float(np.mean([len(f) for f in of[:64]])))))
        drawn = [of[int(i)] for i in rng.integers(0, len(of), count)]
        batch = [film.reversed() if rng.random() < 0.5 else film for film in drawn]
        read = head(memory(model, [film.tokens for film in batch]))
        read = read.unflatten(-1, (len(COLORS), -1))
        phrase, shape = torch.split(read, [len(ACTION_PHRASES), len(SHAPES)], dim=-1)
        return {
            "phrase": _told(phrase, [film.phrase for film in batch]),
            "shape": _told(shape, [film.shape for film in batch]),
        }

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


def _told(logits: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of (B, T, 6, C) logits at the places where there is something to tell."""
    labels = pad_sequence(list(targets), batch_first=True, padding_value=_UNTOLD)
    return functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), ignore_index=_UNTOLD)
