import numpy as np
import pytest

from vidground.errors import InputError
from vidground.training.toy.captions import (
    COLORS,
    DIRECTIONS,
    SHAPES,
    Facts,
    changed_facts,
    facts,
    words,
)

EVERY_EVENT = [
    Facts(color, shape, action, direction)
    for color in COLORS
    for shape in SHAPES
    for action, directions in DIRECTIONS.items()
    for direction in directions or (None,)
]


def test_every_caption_reads_back_into_its_facts() -> None:
    # 6 colours, 4 shapes, 4 ways to move + 2 to spin + 3 actions without a direction.
    assert len({what.caption for what in EVERY_EVENT}) == 6 * 4 * 9
    for what in EVERY_EVENT:
        assert facts(what.caption) == what
        assert facts(what.step) == what
        assert facts(f" {what.caption.capitalize()}. ") == what


def test_captions_read_as_documented() -> None:
    assert Facts("red", "circle", "moves", "left").caption == "a red circle moves left"
    assert Facts("green", "triangle", "grows", None).step == "green triangle grows"
    assert Facts("blue", "square", "spins", "clockwise").action_phrase == "spins clockwise"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("", Facts(None, None, None, None)),
        ("a red blue circle moves left", Facts(None, "circle", "moves", "left")),
        ("a red circle moves left right", Facts("red", "circle", "moves", None)),
        ("red red circle", Facts("red", "circle", None, None)),
        ("a redcircle grows", Facts(None, None, "grows", None)),
        ("a cross spins counterclockwise", Facts(None, "cross", "spins", "counterclockwise")),
    ],
)
def test_an_answer_that_is_no_caption_is_read_as_far_as_it_goes(
    caption: str, expected: Facts
) -> None:
    assert facts(caption) == expected


@pytest.mark.parametrize("fact", ["color", "shape", "action", "direction"])
def test_changing_a_fact_changes_only_that_one(fact: str) -> None:
    rng = np.random.default_rng(1)
    for what in EVERY_EVENT:
        if fact == "direction" and what.direction is None:
            with pytest.raises(InputError, match="cannot be changed"):
                changed_facts(what, fact, rng)
            continue
        other = changed_facts(what, fact, rng)
        assert other in EVERY_EVENT
        differing = {
            name
            for name in ("color", "shape", "action", "direction")
            if getattr(other, name) != getattr(what, name)
        }
        # Another action brings its own direction, or none.
        assert differing - ({"direction"} if fact == "action" else set()) == {fact}


def test_words_of_a_text() -> None:
    assert words("</evi><evi>, a cat.") == ["</evi>", "<evi>", ",", "a", "cat", "."]
    assert words("'<start time>' (B)") == ["'", "<", "start", "time", ">", "'", "(", "B", ")"]
