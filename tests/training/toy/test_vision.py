"""Teaching a toy model to see: what a frame shows, what is asked of it, and that it is learnt."""

import numpy as np
import pytest
import torch

from vidground.model.d2vlm import D2VLM
from vidground.training.toy.captions import ACTION_PHRASES, COLORS, SHAPES, Facts
from vidground.training.toy.dataset import toy_film
from vidground.training.toy.drawing import render
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.training.toy.motion import Pose, ToySprite
from vidground.training.toy.stills import SeenShapes, crowded_stills, shapes_in
from vidground.training.toy.vision import ask, patches_of, train_compressor, train_encoder
from vidground.training.toy.world import PALETTE, ToyEvent, ToyVideo


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
    told = (asked.colour.tolist(), asked.there.tolist(), asked.action.tolist())
    for text, colour, there, action in zip(texts, *told, strict=True):
        if colour >= 0:
            assert COLORS[colour] in text
            assert there == ("red circle" in text)
        if action >= 0:
            assert all(word in text.split() for word in ACTION_PHRASES[action].split())
    assert sum("describe" in text for text in texts) > 60  # the captioning question and others
    assert sum("summary" in text for text in texts) == 0
    assert 0.3 < (asked.colour < 0).float().mean() < 0.6
    assert 0.15 < asked.there.mean() < 0.4
    assert 0.4 < (asked.action >= 0).float().mean() < 0.7
    of_action_alone = (asked.action >= 0) & (asked.colour < 0)
    assert 0.05 < of_action_alone.float().mean() < 0.3


def test_a_patch_knows_the_shape_that_covers_it() -> None:
    at = Pose(0.25, 0.75, 0.2, 0.0)  # over four of 4 x 4 patches: rows 2 and 3, columns 0 and 1
    film = ToyVideo(4.0, (event("blue", "cross", 0, 4, at),), (), (50.0, 0.0, 0.0), 0.0)
    found = patches_of(shapes_in(film, np.array([0.0, 5.0])), side=4)
    blue, background = COLORS.index("blue"), len(COLORS)
    expected = torch.full((4, 4), background)
    expected[2:, :2] = blue
    assert found.colour[0].reshape(4, 4).equal(expected)
    assert (found.colour[1] == background).all()
    assert found.shape[0].reshape(4, 4)[2:, :2].unique().tolist() == [SHAPES.index("cross")]
    # The upper left one of them lies an eighth of the frame to the left of the centre, and above.
    corner = found.pose[0].reshape(4, 4, 6)[2, 0]
    torch.testing.assert_close(corner[:2], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(corner[3:], torch.tensor([1.0, 0.0, 1.0]))


def test_crowded_stills_show_several_colours_and_never_one_twice() -> None:
    pixels, found = crowded_stills(40, seed=1, size=32)
    assert pixels.shape == (40, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert found.clear.all()
    assert found.present.sum(1).mean() > 2.5
    assert crowded_stills(3, seed=1, size=32)[0].equal(pixels[:3])
    assert not crowded_stills(3, seed=2, size=32)[0].equal(pixels[:3])
    # What is said to be there is there: below the middle of an upright square is its colour.
    upright = (found.shape == SHAPES.index("square")) & (found.pose[..., 3] > 0.9)
    bright = upright & (found.pose[..., 5] == 1) & (found.pose[..., 2] > 0)
    places = bright.nonzero().tolist()
    assert places
    for frame, colour in places:
        x, y = found.pose[frame, colour, :2].tolist()
        rgb = pixels[frame, :, int((y + 1) * 16 + 1.5), int((x + 1) * 16)].float()
        assert min(PALETTE, key=lambda c: (torch.tensor(PALETTE[c]) - rgb).norm()) == COLORS[colour]


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


def moved(model: D2VLM, before: dict[str, torch.Tensor]) -> set[str]:
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    return {name.split(".")[0] for name in changed}


def test_each_training_moves_its_part_only_and_learns(
    frames: tuple[torch.Tensor, SeenShapes],
) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[dict[str, float]] = []
    options = {"batch_size": 32, "learning_rate": 3e-3, "steps": 30}
    train_encoder(model, *frames, on_step=lambda _, losses: told.append(losses), **options)
    assert moved(model, before) == {"vision"}
    assert told[-1]["colour"] < 0.7 * told[0]["colour"]
    pixels, seen_shapes = frames
    with torch.no_grad():
        patches = model.encode_frames(pixels.float() / 255).half()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told.clear()
    train_compressor(
        model, patches, seen_shapes, on_step=lambda _, losses: told.append(losses), **options
    )
    assert moved(model, before) == {"compressor"}
    assert told[-1]["presence"] < 0.7 * told[0]["presence"]


def test_a_seed_gives_a_training(frames: tuple[torch.Tensor, SeenShapes]) -> None:
    trained = []
    for seed in (0, 0, 1):
        model = small_model()
        train_encoder(model, *frames, steps=2, batch_size=8, seed=seed)
        trained.append(model.vision.embeddings.patch_embedding.weight)
    assert trained[0].equal(trained[1])
    assert not trained[0].equal(trained[2])
