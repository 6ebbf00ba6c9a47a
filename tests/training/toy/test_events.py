"""Pre-training on events: what the targets are, and that a model learns them."""

import numpy as np
import torch

from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.d2vlm import D2VLM
from vidground.training.toy.captions import ACTION_PHRASES, COLORS, SHAPES, Facts
from vidground.training.toy.events import WatchedFilm, memory, train_events, watched
from vidground.training.toy.model import make_toy_model, toy_config
from vidground.training.toy.motion import Pose, ToySprite
from vidground.training.toy.world import PALETTE, ToyEvent, ToyVideo

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


def phrase(words: str) -> int:
    return ACTION_PHRASES.index(words)


def test_frames_tell_what_each_colour_does() -> None:
    targets = watched(a_film(), torch.zeros(8, WIDTH)).targets()
    left, grows = phrase("moves left"), phrase("grows")
    assert targets["phrase"][:, RED].tolist() == [-100, left, left, left, -100, grows, grows, -100]
    assert targets["phrase"][:, BLUE].tolist() == [
        *[-100] * 2,
        *[phrase("spins clockwise")] * 3,
        *[-100] * 3,
    ]
    assert targets["shape"][1, RED] == SHAPES.index("square")
    assert targets["shape"][5, RED] == SHAPES.index("circle")
    others = [c for c in range(6) if c not in (RED, BLUE)]
    assert (targets["phrase"][:, others] == -100).all()
    # At 4 s two red shapes are there: which, is not targets, but that there is one.
    assert targets["present"][:, RED].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert targets["shape"][4, RED] == -100
    assert not targets["present"][:, others].any()


def test_frames_tell_what_goes_on_whatever_does_it() -> None:
    going_on = watched(a_film(), torch.zeros(8, WIDTH)).targets()["going_on"]
    assert going_on[:, phrase("moves left")].tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    assert going_on[:, phrase("grows")].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert going_on.sum() == 4 + 3 + 3


def test_frames_tell_how_many_events_began_before() -> None:
    film = watched(a_film(), torch.zeros(8, WIDTH))
    order = film.targets()["order"]
    assert order[:, RED].tolist() == [-100, 0, 0, 0, -100, 2, 2, -100]
    assert order[2:5, BLUE].tolist() == [1, 1, 1]
    # Backwards, the blue shape comes second and leaves third: from 8 - 5 to 8 - 2.
    back = film.reversed().targets()["order"]
    assert back[:, RED].tolist() == [-100, 0, 0, -100, 2, 2, 2, -100]
    assert back[3:6, BLUE].tolist() == [1, 1, 1]


def test_frames_tell_the_poses_before_and_after() -> None:
    film = watched(a_film(), torch.zeros(8, WIDTH))
    around, pose = film.targets()["around"], film.seen.pose
    assert around.shape == (8, 6, 12)
    assert around[2, BLUE, 6:].equal(pose[3, BLUE])
    assert around[3, BLUE, :6].equal(pose[2, BLUE])
    assert around[2, BLUE, :6].isnan().all()  # it has just come
    assert around[3, RED, 6:].isnan().all()  # two of them follow
    assert around[0, :, :6].isnan().all()
    assert around[7, :, 6:].isnan().all()


def test_frames_tell_whether_what_is_asked_for_is_there_and_what_it_does() -> None:
    nan = float("nan")
    tokens = torch.zeros(8, WIDTH)
    targets = watched(a_film(), tokens, Facts("red", "square", "grows", None)).targets()
    expected = torch.tensor([0, 1, 1, 1, nan, 0, 0, 0])
    torch.testing.assert_close(targets["asked"], expected, equal_nan=True)
    left = phrase("moves left")
    assert targets["asked_phrase"].tolist() == [-100, left, left, left, *[-100] * 4]
    absent = watched(a_film(), tokens, Facts("blue", "circle", "grows", None)).targets()
    assert absent["asked"].tolist() == absent["matches"].tolist() == [0.0] * 8
    assert (absent["asked_phrase"] == -100).all()
    nothing_asked = watched(a_film(), tokens).targets()
    assert nothing_asked["asked"].isnan().all()
    assert nothing_asked["matches"].isnan().all()
    assert (nothing_asked["asked_phrase"] == -100).all()


def test_frames_tell_whether_it_does_what_is_asked() -> None:
    nan = float("nan")
    tokens = torch.zeros(8, WIDTH)

    def matches(facts: Facts) -> torch.Tensor:
        return watched(a_film(), tokens, facts).targets()["matches"]

    expected = torch.tensor([0, 1, 1, 1, nan, 0, 0, 0])
    found = matches(Facts("red", "square", "moves", "left"))
    torch.testing.assert_close(found, expected, equal_nan=True)
    other = matches(Facts("red", "square", "moves", "right"))
    torch.testing.assert_close(other, expected * 0, equal_nan=True)
    # Whatever does it: two red shapes are no hindrance.
    assert matches(Facts(None, None, "moves", "left")).tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    assert matches(Facts("red", "square", None, None)).isnan().all()


def test_a_film_run_backwards_shows_the_opposite() -> None:
    tokens = torch.arange(8.0)[:, None].expand(8, WIDTH)
    film = watched(a_film(), tokens, Facts("red", "square", "moves", "left"))
    targets, back = film.targets(), film.reversed().targets()
    assert film.reversed().tokens[0, 0] == 7
    right, shrinks = phrase("moves right"), phrase("shrinks")
    assert back["phrase"][:, RED].tolist() == [-100, shrinks, shrinks, -100, *[right] * 3, -100]
    assert back["phrase"][3, BLUE] == phrase("spins counterclockwise")
    assert back["asked_phrase"].tolist() == [*[-100] * 4, *[right] * 3, -100]
    assert (
        targets["matches"] == 1
    ).sum() == 3  # the question stays: what moves left, now moves right
    assert not (back["matches"] == 1).any()
    assert back["shape"].flip(0).equal(targets["shape"])
    assert back["going_on"][3, phrase("shrinks")] == targets["going_on"][4, phrase("grows")] == 1
    assert back["going_on"].sum() == targets["going_on"].sum()
    before, after = back["around"].flip(0).split(6, dim=-1)
    torch.testing.assert_close(torch.cat((after, before), -1), targets["around"], equal_nan=True)
    assert film.reversed().reversed().phrase.equal(film.phrase)


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
    """A red shape that stays; the tokens say which, and whether it moves left or right."""
    kind, does = int(rng.integers(len(SHAPES))), str(rng.choice(["left", "right"]))
    facts = Facts("red", SHAPES[kind], "moves", does)
    tokens = torch.zeros(6, WIDTH)
    tokens[:, kind] = 3.0
    tokens[:, len(SHAPES)] = 3.0 if does == "left" else -3.0
    return watched(ToyVideo(6.0, (event(facts, 0, 6),), (), (50.0, 0.0, 0.0), 0.0), tokens, facts)


def test_training_moves_the_first_layers_only_and_learns() -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = np.random.default_rng(0)
    films = [[random_film(rng) for _ in range(40)]]
    targets: list[dict[str, float]] = []
    train_events(
        model, films, steps=50, learning_rate=6e-3, on_step=lambda _, losses: targets.append(losses)
    )
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    prefixes = tuple(f"language_model.layers.{n}." for n in range(model.config.evidence_layer))
    assert all(name.startswith((*prefixes, "language_model.embed_tokens.")) for name in changed)
    assert any(name.startswith(prefixes) for name in changed)
    assert set(targets[0]) == {
        *("present", "shape", "phrase", "around", "order", "going_on", "asked", "asked_phrase"),
        "matches",
    }
    learnt = {name: targets[-1][name] / loss for name, loss in targets[0].items()}
    del learnt["matches"]  # these tokens do not tell what is asked for
    assert max(learnt.values()) < 0.5, learnt
