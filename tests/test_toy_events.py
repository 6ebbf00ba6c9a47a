"""Teaching a toy model to follow events: what is to be told, and that it is learnt in its place."""

import numpy as np
import torch

from vidground.modeling import D2VLM
from vidground.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.sequences import PromptInputs, batch_prompts
from vidground.training.toy_captions import ACTION_PHRASES, COLORS, SHAPES, Facts
from vidground.training.toy_events import WatchedFilm, memory, train_events, watched
from vidground.training.toy_model import make_toy_model, toy_config
from vidground.training.toy_motion import Pose, ToySprite
from vidground.training.toy_world import PALETTE, ToyEvent, ToyVideo

WIDTH = 32
RED, BLUE = COLORS.index("red"), COLORS.index("blue")


def event(facts: Facts, start_s: float, end_s: float) -> ToyEvent:
    pose = Pose(0.5, 0.5, 0.16, 0.0)
    color, shape = str(facts.color), str(facts.shape)
    return ToyEvent(facts, ToySprite(shape, PALETTE[color], start_s, end_s, pose, pose))


def small_model() -> D2VLM:
    config = toy_config(
        image_size=32, patch_size=8, vision_layers=1, vision_width=32, text_layers=4,
        text_width=WIDTH,
    )  # fmt: skip
    return make_toy_model(config, seed=0)


def a_film() -> ToyVideo:
    events = (
        event(Facts("red", "square", "moves", "left"), 1, 4.5),
        event(Facts("blue", "cross", "spins", "clockwise"), 2, 5),
        event(Facts("red", "circle", "grows", None), 4, 7),
    )
    return ToyVideo(8.0, events, (), (50.0, 0.0, 0.0), 0.0)


def test_frames_tell_what_each_colour_does() -> None:
    film = watched(a_film(), torch.zeros(8, WIDTH))
    left, grows = ACTION_PHRASES.index("moves left"), ACTION_PHRASES.index("grows")
    assert film.phrase[:, RED].tolist() == [-100, left, left, left, -100, grows, grows, -100]
    clockwise = ACTION_PHRASES.index("spins clockwise")
    assert film.phrase[:, BLUE].tolist() == [-100, -100, *[clockwise] * 3, *[-100] * 3]
    assert film.shape[1, RED] == SHAPES.index("square")
    assert film.shape[5, RED] == SHAPES.index("circle")
    assert (film.phrase[:, [c for c in range(6) if c not in (RED, BLUE)]] == -100).all()


def test_a_film_run_backwards_shows_the_opposite() -> None:
    film = watched(a_film(), torch.arange(8.0)[:, None].expand(8, WIDTH))
    back = film.reversed()
    assert back.tokens[0, 0] == 7
    right, shrinks = ACTION_PHRASES.index("moves right"), ACTION_PHRASES.index("shrinks")
    assert back.phrase[:, RED].tolist() == [-100, shrinks, shrinks, -100, *[right] * 3, -100]
    assert back.phrase[3, BLUE] == ACTION_PHRASES.index("spins counterclockwise")
    assert back.shape.flip(0).equal(film.shape)
    assert back.reversed().phrase.equal(film.phrase)


def test_the_memory_is_that_of_a_prompt_whatever_else_is_in_the_batch() -> None:
    model = small_model().eval()
    assert model.tokenizers is not None
    tokens = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    ids = encode_prompt(chat_prompt(captioning_question()), model.tokenizers)
    with torch.no_grad():
        found = memory(model, [tokens, torch.randn(9, WIDTH)])[0, :5]
        batch = batch_prompts(model, [PromptInputs(ids.before, ids.after, tokens, [])])
        context = model.context(batch.position_ids, batch.visible())
        hidden = model.run_layers(batch.embeds, 0, model.config.evidence_layer, context)
    torch.testing.assert_close(found, batch.at_frames(hidden)[0], atol=1e-5, rtol=1e-4)


def random_film(rng: np.random.Generator) -> WatchedFilm:
    """One colour's number in the tokens says what it does."""
    phrase = torch.full((6, len(COLORS)), -100)
    shape = phrase.clone()
    what = int(rng.integers(len(ACTION_PHRASES)))
    phrase[:, RED], shape[:, RED] = ACTION_PHRASES.index("blinks"), what % len(SHAPES)
    tokens = torch.zeros(6, WIDTH)
    tokens[:, what % len(SHAPES)] = 3.0
    return WatchedFilm(tokens, phrase, shape)


def test_training_moves_the_first_layers_only_and_learns() -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = np.random.default_rng(0)
    films = [[random_film(rng) for _ in range(40)]]
    told: list[dict[str, float]] = []
    train_events(
        model, films, steps=25, learning_rate=3e-3, on_step=lambda _, losses: told.append(losses)
    )
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    prefixes = tuple(f"language_model.layers.{n}." for n in range(model.config.evidence_layer))
    assert all(name.startswith((*prefixes, "language_model.embed_tokens.")) for name in changed)
    assert any(name.startswith(prefixes) for name in changed)
    assert told[-1]["shape"] < 0.5 * told[0]["shape"]
