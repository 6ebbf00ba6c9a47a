"""Teaching a toy model to see: what a frame shows, what is asked of it, and that it is learnt."""

import numpy as np
import pytest
import torch

from vidground.modeling import D2VLM
from vidground.training.toy_captions import COLORS, SHAPES, Facts
from vidground.training.toy_dataset import toy_film
from vidground.training.toy_drawing import render
from vidground.training.toy_model import make_toy_model, toy_config
from vidground.training.toy_motion import Pose, ToySprite
from vidground.training.toy_vision import SeenShapes, ask, shapes_in, train_vision
from vidground.training.toy_world import PALETTE, ToyEvent, ToyVideo


def event(color: str, shape: str, start_s: float, end_s: float, pose: Pose) -> ToyEvent:
    sprite = ToySprite(shape, PALETTE[color], start_s, end_s, pose, pose)
    return ToyEvent(Facts(color, shape, "blinks", None), sprite)


def small_model() -> D2VLM:
    config = toy_config(
        image_size=32, patch_size=8, vision_layers=1, vision_width=32, text_layers=2, text_width=32
    )
    return make_toy_model(config, seed=0)


def seen(shapes: list[list[int]]) -> SeenShapes:
    shape = torch.tensor(shapes)
    return SeenShapes((shape != -1).float(), shape.clamp(min=-1), torch.zeros(*shape.shape, 6))


def test_places_hold_what_is_there_and_two_of_one_colour_are_not_told_apart() -> None:
    at = Pose(0.25, 0.5, 0.16, 90.0)
    events = (
        event("red", "square", 0, 4, at),
        event("blue", "circle", 2, 6, at),
        event("red", "cross", 3, 6, at),
    )
    video = ToyVideo(8.0, events, (), (50.0, 0.0, 0.0), 0.0)
    found = shapes_in(video, np.arange(8.0))
    red, blue = COLORS.index("red"), COLORS.index("blue")
    assert found.present[:, red].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    square, cross = SHAPES.index("square"), SHAPES.index("cross")
    assert found.shape[:, red].tolist() == [square, square, square, -1, cross, cross, -1, -1]
    assert found.shape[:, blue].tolist() == [-1, -1, *[SHAPES.index("circle")] * 4, -1, -1]
    assert found.present.sum() == 6 + 4
    # x and y from -1 to 1, the usual radius at 0, a quarter turn, full opacity
    torch.testing.assert_close(
        found.pose[0, red], torch.tensor([-0.5, 0.0, 0.0, 0.0, 1.0, 1.0]), atol=1e-6, rtol=0
    )
    assert not found.pose[0, blue].any()


def test_questions_know_whether_what_they_name_is_there() -> None:
    model = small_model()
    assert model.tokenizers is not None
    circle = SHAPES.index("circle")
    red = COLORS.index("red")
    frames = seen([[circle if c == red else -1 for c in range(6)]] * 400)
    asked = ask(model, frames, np.random.default_rng(0))
    texts = [" ".join(model.tokenizers.question.convert_ids_to_tokens(i)) for i in asked.ids]
    for text, colour, there in zip(texts, asked.colour.tolist(), asked.there.tolist(), strict=True):
        if colour < 0:
            assert "describe" in text
        else:
            assert COLORS[colour] in text
        assert there == ("red circle" in text)
    assert 0.2 < (asked.colour < 0).float().mean() < 0.4
    assert 0.3 < asked.there.mean() < 0.6


@pytest.fixture(scope="module")
def frames() -> tuple[torch.Tensor, SeenShapes]:
    pixels, shapes = [], []
    for index in range(4):
        film = toy_film(0, "train", index)
        times_s = np.arange(0, film.video.duration_s, 2.0)
        drawn = render(film.video, times_s, size=32, noise_seed=film.noise_seed)
        pixels.append(torch.from_numpy(drawn).permute(0, 3, 1, 2))
        shapes.append(shapes_in(film.video, times_s))
    joined = (torch.cat([getattr(s, n) for s in shapes]) for n in ("present", "shape", "pose"))
    return torch.cat(pixels), SeenShapes(*joined)


def test_training_moves_the_vision_part_only_and_learns(
    frames: tuple[torch.Tensor, SeenShapes],
) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[dict[str, float]] = []
    train_vision(
        model, *frames, steps=30, batch_size=32, learning_rate=3e-3,
        on_step=lambda _, losses: told.append(losses),
    )  # fmt: skip
    moved = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    assert moved
    assert all(name.startswith(("vision.", "compressor.")) for name in moved)
    assert any(name.startswith("vision.") for name in moved)
    assert told[-1]["presence"] < 0.7 * told[0]["presence"]
