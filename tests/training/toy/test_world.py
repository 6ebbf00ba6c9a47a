from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest

from vidground.errors import InputError
from vidground.training.toy.captions import ACTIONS, COLORS, DIRECTIONS, SHAPES
from vidground.training.toy.motion import DIM_OPACITY
from vidground.training.toy.world import (
    PALETTE,
    ToyEvent,
    ToySettings,
    ToyVideo,
    sample_video,
)

SETTINGS = ToySettings()


@pytest.fixture(scope="module")
def films() -> list[ToyVideo]:
    return [sample_video(np.random.default_rng([7, k])) for k in range(80)]


def test_a_seed_is_a_film() -> None:
    assert sample_video(np.random.default_rng(5)) == sample_video(np.random.default_rng(5))
    assert sample_video(np.random.default_rng(5)) != sample_video(np.random.default_rng(6))


def test_facts_are_uniform_and_independent() -> None:
    settings = ToySettings(repeat_share=0, max_duration_s=40)
    happenings = [
        event.facts
        for k in range(350)
        for event in sample_video(np.random.default_rng([11, k]), settings=settings).events
    ]
    # 99.9 % quantiles of chi-square with cells - 1 degrees of freedom.
    for names, values, quantile in (
        (("color", "shape"), (COLORS, SHAPES), 49.7),
        (("color", "action"), (COLORS, ACTIONS), 58.3),
        (("shape", "action"), (SHAPES, ACTIONS), 43.8),
    ):
        seen = Counter(tuple(getattr(what, name) for name in names) for what in happenings)
        cells = list(product(*values))
        expected = len(happenings) / len(cells)
        assert sum((seen[cell] - expected) ** 2 / expected for cell in cells) < quantile
    for action, quantile in (("moves", 16.3), ("spins", 10.8)):
        turned = Counter(what.direction for what in happenings if what.action == action)
        expected = turned.total() / len(DIRECTIONS[action])
        assert sum((turned[d] - expected) ** 2 / expected for d in DIRECTIONS[action]) < quantile


def test_events_lie_on_frames_within_the_film_and_have_the_set_length(
    films: list[ToyVideo],
) -> None:
    for film in films:
        assert 20 <= film.duration_s <= 90
        assert 1 <= len(film.events) <= 4
        assert list(film.events) == sorted(film.events, key=lambda event: event.start_s)
        for event in film.events:
            assert 0 <= event.start_s < event.end_s <= film.duration_s
            assert 4 <= round(event.end_s - event.start_s, 9) <= 15
            assert event.start_s == round(event.start_s * SETTINGS.fps) / SETTINGS.fps
            assert event.end_s == round(event.end_s * SETTINGS.fps) / SETTINGS.fps
    assert {len(film.events) for film in films} == {1, 2, 3, 4}


def test_events_can_overlap_but_never_three_and_never_cover_each_other(
    films: list[ToyVideo],
) -> None:
    overlaps = 0
    for film in films:
        times_s = np.arange(film.duration_s * SETTINGS.fps) / SETTINGS.fps
        poses = [event.sprite.poses(times_s) for event in film.events]
        assert sum(p[:, 4] > 0 for p in poses).max() <= 2
        for one, other in combinations(poses, 2):
            both = (one[:, 4] > 0) & (other[:, 4] > 0)
            overlaps += bool(both.any())
            distance = np.hypot(one[both, 0] - other[both, 0], one[both, 1] - other[both, 1])
            assert (distance > one[both, 2] + other[both, 2]).all()
    assert overlaps >= 10


def test_shapes_that_look_alike_are_a_sample_apart(films: list[ToyVideo]) -> None:
    pairs = [
        (one, other)
        for film in films
        for one, other in combinations(film.events, 2)
        if one.facts.look == other.facts.look
    ]
    assert len(pairs) >= 5
    assert all(other.start_s - one.end_s >= 1 for one, other in pairs)


def test_shapes_stay_inside_the_frame(films: list[ToyVideo]) -> None:
    for film in films:
        for sprite in (*film.distractors, *(event.sprite for event in film.events)):
            x, y, radius, _, _ = sprite.poses(np.arange(0, film.duration_s, 0.2)).T
            assert min((x - radius).min(), (y - radius).min()) > 0
            assert max((x + radius).max(), (y + radius).max()) < 1


def test_only_distractors_are_grey(films: list[ToyVideo]) -> None:
    for film in films:
        assert all(len(set(sprite.rgb)) == 1 for sprite in film.distractors)
        for event in film.events:
            assert max(event.sprite.rgb) - min(event.sprite.rgb) >= 90
            nearest = min(
                PALETTE, key=lambda name: np.abs(np.subtract(PALETTE[name], event.sprite.rgb)).max()
            )
            assert nearest == event.facts.color
    assert any(film.distractors for film in films)


def _steps(event: ToyEvent) -> np.ndarray:
    """Changes of (x, y, radius, angle, opacity) between samples one second apart."""
    times_s = np.arange(np.ceil(event.start_s), event.end_s)
    assert len(times_s) >= 4
    return np.diff(event.sprite.poses(times_s), axis=0)


def test_every_action_shows_between_samples_one_second_apart(films: list[ToyVideo]) -> None:
    headings = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    seen = set()
    for event in (event for film in films for event in film.events):
        x, y, radius, angle, opacity = _steps(event).T
        action, direction = event.facts.action, event.facts.direction
        seen.add(event.facts.action_phrase)
        moving = np.abs(x) + np.abs(y) > 1e-9
        if action == "moves" and direction is not None:
            along, across = np.array(headings[direction]), np.array(headings[direction][::-1])
            assert (np.stack([x, y], 1) @ along >= 0.04 - 1e-9).all()
            assert np.allclose(np.stack([x, y], 1) @ across, 0)
        else:
            assert not moving.any()
        growth = {"grows": 1, "shrinks": -1}.get(str(action))
        assert (2 * radius * growth > 0.02).all() if growth else np.allclose(radius, 0)
        turn = {"clockwise": 1, "counterclockwise": -1}.get(str(direction))
        if turn:
            assert ((turn * angle >= 30 - 1e-9) & (turn * angle <= 44 + 1e-9)).all()
        else:
            assert np.allclose(angle, 0)
        blinking = np.isclose(np.abs(opacity), 1 - DIM_OPACITY)
        assert blinking.all() if action == "blinks" else np.allclose(opacity, 0)
    assert len(seen) == 9


def test_a_film_that_hardly_holds_its_events_still_gets_them_all() -> None:
    tight = ToySettings(
        min_duration_s=20, max_duration_s=20, min_events=4, max_event_s=5, repeat_share=1
    )
    for k in range(40):
        film = sample_video(np.random.default_rng(k), settings=tight)
        assert len(film.events) == 4
        captions = Counter(event.caption for event in film.events)
        assert captions.most_common(1)[0][1] >= 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_events", 0),
        ("max_events", 0),
        ("min_event_s", 2.0),
        ("max_event_s", 3.0),
        ("max_event_s", 17.0),
        ("min_duration_s", 19.0),
        ("max_duration_s", 19.0),
        ("max_distractors", -1),
        ("repeat_share", 1.5),
        ("noise", -1.0),
        ("fps", 1),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_limit(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{setting} is {value}; it must be "):
        ToySettings(**{setting: value})
