"""The language of the toy world: captions, and how they are parsed back into facts.

A caption is "a <color> <shape> <action>[ <direction>]", as in "a red circle moves left" or "a
green triangle grows". Every combination can occur, so each fact must be seen in the pixels: none
can be guessed from the others. Knows neither times nor pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vidground.errors import InputError

COLORS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "cross")
DIRECTIONS: dict[str, tuple[str, ...]] = {
    "moves": ("left", "right", "up", "down"),
    "spins": ("clockwise", "counterclockwise"),
    "grows": (),
    "shrinks": (),
    "blinks": (),
}
"""Each action and the directions it can take; an empty tuple where it takes none."""

ACTIONS = tuple(DIRECTIONS)
ACTION_PHRASES = tuple(
    phrase
    for action, directions in DIRECTIONS.items()
    for phrase in ([f"{action} {direction}" for direction in directions] or [action])
)
"""Every action with its direction, as in captions: "moves left", …, "blinks"."""

_WORD = re.compile(r"</?evi>|[a-z0-9]+|[^\sa-z0-9]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a caption says; None for what it does not say, or contradicts itself about.

    The facts of an event always name color, shape and action, and a direction if and only if the
    action takes one.

    Attributes:
        color: one of `COLORS`.
        shape: one of `SHAPES`.
        action: one of `ACTIONS`.
        direction: one of `DIRECTIONS[action]`.
    """

    color: str | None
    shape: str | None
    action: str | None
    direction: str | None

    @property
    def caption(self) -> str:
        """The sentence without its full stop: "a red circle moves left"."""
        parts = (self.color, self.shape, self.action, self.direction)
        return " ".join(["a", *(word for word in parts if word is not None)])

    @property
    def step(self) -> str:
        """The caption without its article, as in step captions: "red circle moves left"."""
        return self.caption.removeprefix("a ")

    @property
    def action_phrase(self) -> str:
        """Action and direction: "moves left", "grows"."""
        return " ".join(word for word in (self.action, self.direction) if word is not None)

    @property
    def look(self) -> str:
        """Color and shape: "red circle"."""
        return " ".join(word for word in (self.color, self.shape) if word is not None)


def sample_facts(rng: np.random.Generator) -> Facts:
    """Draw facts: color, shape and action uniformly and independently, then a direction of the
    action uniformly.
    """
    action = str(rng.choice(ACTIONS))
    directions = DIRECTIONS[action]
    return Facts(
        color=str(rng.choice(COLORS)),
        shape=str(rng.choice(SHAPES)),
        action=action,
        direction=str(rng.choice(directions)) if directions else None,
    )


def facts(caption: str) -> Facts:
    """Return what a caption says, word by word; never fails, so that any answer can be scored.

    A fact is None if the caption has no word for it or contradicts itself ("a red blue circle").
    `facts(f.caption) == facts(f.step) == f` for the facts f of every event.
    """
    present = {word.lower() for word in words(caption)}
    directions = [direction for options in DIRECTIONS.values() for direction in options]
    return Facts(
        color=_only(present, COLORS),
        shape=_only(present, SHAPES),
        action=_only(present, ACTIONS),
        direction=_only(present, directions),
    )


def _only(present: set[str], known: Iterable[str]) -> str | None:
    found = [word for word in known if word in present]
    return found[0] if len(found) == 1 else None


def changed_facts(original: Facts, fact: str, rng: np.random.Generator) -> Facts:
    """Return facts with one of them replaced by another value, drawn uniformly.

    Args:
        original: the facts to change.
        fact: "color", "shape", "action" (with its direction) or "direction".
        rng: to draw from.

    Raises:
        InputError: the action of `original` takes no direction, or `fact` is another name.
    """
    if fact == "color":
        return _replaced(original, COLORS, original.color, rng)
    if fact == "shape":
        return _replaced(original, SHAPES, original.shape, rng)
    if fact == "action":
        others = [phrase for phrase in ACTION_PHRASES if facts(phrase).action != original.action]
        return _replaced(original, others, None, rng)
    if fact == "direction" and original.direction is not None:
        directions = DIRECTIONS[str(original.action)]
        phrases = [f"{original.action} {direction}" for direction in directions]
        return _replaced(original, phrases, original.action_phrase, rng)
    raise InputError(
        f"fact {fact!r} of {original.caption!r} cannot be changed; name one that it says: "
        "color, shape, action or direction"
    )


def _replaced(
    original: Facts, options: Iterable[str], current: str | None, rng: np.random.Generator
) -> Facts:
    new = facts(str(rng.choice([option for option in options if option != current])))
    return Facts(
        color=new.color or original.color,
        shape=new.shape or original.shape,
        action=new.action or original.action,
        direction=new.direction if new.action else original.direction,
    )


def plural(shape: str | None) -> str:
    """Return the plural of a shape: "circles", "crosses"."""
    return "crosses" if shape == "cross" else f"{shape}s"


def words(text: str) -> list[str]:
    """Split a text into words: runs of letters and digits, `<evi>` and `</evi>`, and every other
    visible character by itself. Case is kept.
    """
    return _WORD.findall(text)
