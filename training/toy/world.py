"""The toy world: short films of coloured shapes with exactly known events.

An event is one coloured shape that does one thing. It begins when the shape appears and ends when
it disappears: outside [start_s, end_s) the shape is not drawn. Shapes of two events never cover
each other. Distractors are grey (R = G = B), are never captioned and may be covered by an event's
shape, which is never grey.

A film is pure data, drawn from a random generator: `vidground.training.toy.drawing` renders its
pixels, `vidground.training.toy.questions` makes its questions and answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np

from vidground.errors import InputError
from vidground.training.toy.captions import SHAPES, Facts, sample_facts
from vidground.training.toy.motion import (
    LEAST_SPEED,
    LONGEST_WAY,
    ToySprite,
    clear_of,
    sample_drift,
    sample_motion,
)

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 44),
    "green": (50, 168, 62),
    "blue": (52, 92, 240),
    "yellow": (242, 220, 48),
    "purple": (176, 56, 208),
    "cyan": (44, 206, 214),
}
COLOR_JITTER = 12
"""Largest variation of each channel of an event's colour, in grey levels."""
SAME_LOOK_GAP_S = 1.0
"""Shortest gap between two events of one color and shape, so that one frame a second is in it."""

_TRIES = 30

Span = tuple[int, int]
"""[start, end) of an event, in source frames."""


@dataclass(frozen=True, slots=True)
class ToyEvent:
    """An event.

    Attributes:
        facts: what happens.
        sprite: what is drawn.
    """

    facts: Facts
    sprite: ToySprite

    @property
    def start_s(self) -> float:
        """When the shape appears, in seconds."""
        return self.sprite.start_s

    @property
    def end_s(self) -> float:
        """When the shape is gone, in seconds."""
        return self.sprite.end_s

    @property
    def caption(self) -> str:
        """What happens, as a sentence."""
        return self.facts.caption


@dataclass(frozen=True, slots=True)
class ToyVideo:
    """A film.

    Attributes:
        duration_s: in seconds.
        events: by time.
        distractors: grey shapes that belong to no event.
        background: grey level at the centre, and its rise from left to right and top to bottom.
        noise: standard deviation of every frame's noise, in grey levels.
    """

    duration_s: float
    events: tuple[ToyEvent, ...]
    distractors: tuple[ToySprite, ...]
    background: tuple[float, float, float]
    noise: float


@dataclass(frozen=True, slots=True)
class ToySettings:
    """What films are like. At most two events overlap.

    Attributes:
        min_duration_s: of a film, in seconds.
        max_duration_s: of a film, in seconds.
        min_events: of a film, at least 1.
        max_events: of a film.
        min_event_s: of an event, at least 3 seconds.
        max_event_s: of an event, in seconds.
        max_distractors: of a film.
        repeat_share: share of the films with two events or more in which one happens again.
        noise: largest standard deviation of the noise, in grey levels.
        fps: source frames per second; films and events begin and end on a frame.
    """

    min_duration_s: float = 20.0
    max_duration_s: float = 90.0
    min_events: int = 1
    max_events: int = 4
    min_event_s: float = 4.0
    max_event_s: float = 15.0
    max_distractors: int = 2
    repeat_share: float = 0.3
    noise: float = 8.0
    fps: int = 5

    def __post_init__(self) -> None:
        longest = LONGEST_WAY / LEAST_SPEED
        shortest = math.ceil(self.min_event_s * self.fps - 1e-9) / self.fps
        room = self.max_events * (shortest + SAME_LOOK_GAP_S)
        for name, limit, held in (
            ("min_events", "1 or more", self.min_events >= 1),
            ("max_events", "min_events or more", self.max_events >= self.min_events),
            ("min_event_s", "3 or more, to be sampled three times", self.min_event_s >= 3),
            ("max_event_s", "min_event_s or more", self.max_event_s >= self.min_event_s),
            ("max_event_s", f"at most {longest:g}, to move visibly", self.max_event_s <= longest),
            ("min_duration_s", f"{room:g} or more to hold max_events", self.min_duration_s >= room),
            (
                "max_duration_s",
                "min_duration_s or more",
                self.max_duration_s >= self.min_duration_s,
            ),
            ("max_distractors", "0 or more", self.max_distractors >= 0),
            ("repeat_share", "in [0, 1]", 0 <= self.repeat_share <= 1),
            ("noise", "from 0 to 64 grey levels", 0 <= self.noise <= 64),
            ("fps", "from 2 to 60 frames per second", 2 <= self.fps <= 60),
        ):
            if not held:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {limit}")

    def as_dict(self) -> dict[str, float | int]:
        """Return name and value of every setting, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


DEFAULT_SETTINGS = ToySettings()


def sample_video(rng: np.random.Generator, *, settings: ToySettings = DEFAULT_SETTINGS) -> ToyVideo:
    """Draw a film; the same state of `rng` gives the same film.

    The facts of each event are uniform (see `sample_facts`) and drawn before its times; those of
    two events of a film are independent unless one repeats the other.
    """
    frames = _sample_frames(rng, settings.min_duration_s, settings.max_duration_s, settings.fps)
    all_facts = _sample_facts_of_events(rng, settings)
    events = _sample_events(rng, all_facts, frames, settings)
    distractors = [
        _sample_distractor(rng, frames, settings)
        for _ in range(rng.integers(0, settings.max_distractors + 1))
    ]
    return ToyVideo(
        duration_s=frames / settings.fps,
        events=tuple(sorted(events, key=lambda event: (event.start_s, event.end_s))),
        distractors=tuple(distractors),
        background=(rng.uniform(35, 85), rng.uniform(-25, 25), rng.uniform(-25, 25)),
        noise=rng.uniform(0, settings.noise),
    )


def _sample_frames(rng: np.random.Generator, low_s: float, high_s: float, fps: int) -> int:
    """Draw a number of frames that last from `low_s` to `high_s`, as far as frames allow."""
    low = math.ceil(low_s * fps - 1e-9)
    return int(rng.integers(low, max(low, int(high_s * fps + 1e-9)) + 1))


def _sample_facts_of_events(rng: np.random.Generator, settings: ToySettings) -> list[Facts]:
    count = int(rng.integers(settings.min_events, settings.max_events + 1))
    all_facts = [sample_facts(rng) for _ in range(count)]
    if count >= 2 and rng.random() < settings.repeat_share:
        all_facts[-1] = all_facts[0]
    return all_facts


def _sample_events(
    rng: np.random.Generator, all_facts: list[Facts], frames: int, settings: ToySettings
) -> list[ToyEvent]:
    """Draw events at free times; in turn if no try leaves all visible and unambiguous."""
    for spans_of in (*[_free_spans] * _TRIES, _spans_in_turn):
        spans = spans_of(rng, len(all_facts), frames, settings)
        if _three_at_once(spans) or _alike_too_close(all_facts, spans, settings.fps):
            continue
        events: list[ToyEvent] = []
        for what, span in zip(all_facts, spans, strict=True):
            event = _sample_clear_event(rng, what, span, settings.fps, events)
            if event is None:
                break
            events.append(event)
        else:
            return events
    raise AssertionError("events in turn cannot collide")


def _free_spans(
    rng: np.random.Generator, count: int, frames: int, settings: ToySettings
) -> list[Span]:
    """Draw `count` spans of frames [start, end) anywhere in the film."""
    spans = []
    for _ in range(count):
        longest = min(settings.max_event_s, frames / settings.fps)
        length = _sample_frames(rng, settings.min_event_s, longest, settings.fps)
        start = int(rng.integers(0, frames - length + 1))
        spans.append((start, start + length))
    return spans


def _spans_in_turn(
    rng: np.random.Generator, count: int, frames: int, settings: ToySettings
) -> list[Span]:
    """Draw one span in each of `count` equal slots, each with the gap at its end."""
    slot = frames / count
    room = int(slot) - math.ceil(SAME_LOOK_GAP_S * settings.fps)
    spans = []
    for number in range(count):
        longest = min(settings.max_event_s, room / settings.fps)
        length = _sample_frames(rng, settings.min_event_s, longest, settings.fps)
        start = int(number * slot) + int(rng.integers(0, room - length + 1))
        spans.append((start, start + length))
    return spans


def _three_at_once(spans: list[Span]) -> bool:
    return any(sum(start <= at < end for start, end in spans) > 2 for at, _ in spans)


def _alike_too_close(all_facts: list[Facts], spans: list[Span], fps: int) -> bool:
    return any(
        what.look == other.look
        and max(span[0], other_span[0]) - min(span[1], other_span[1]) < SAME_LOOK_GAP_S * fps
        for (what, span), (other, other_span) in combinations(zip(all_facts, spans, strict=True), 2)
    )


def _sample_clear_event(
    rng: np.random.Generator, what: Facts, span: Span, fps: int, others: list[ToyEvent]
) -> ToyEvent | None:
    """Draw an event whose shape covers none of `others`; None if no try succeeds."""
    for _ in range(_TRIES):
        event = _sample_event(rng, what, span, fps)
        if all(clear_of(event.sprite, other.sprite, fps=fps) for other in others):
            return event
    return None


def _sample_event(rng: np.random.Generator, what: Facts, span: Span, fps: int) -> ToyEvent:
    start_s, end_s = span[0] / fps, span[1] / fps
    first, last = sample_motion(rng, what.action, what.direction, end_s - start_s)
    rgb = sample_rgb(rng, str(what.color))
    blink_phase_s = rng.uniform(0, 2) if what.action == "blinks" else None
    sprite = ToySprite(str(what.shape), rgb, start_s, end_s, first, last, blink_phase_s)
    return ToyEvent(what, sprite)


def sample_rgb(rng: np.random.Generator, color: str) -> tuple[int, int, int]:
    """Draw a colour of the palette, varied by `COLOR_JITTER` in each channel."""
    jitter = rng.integers(-COLOR_JITTER, COLOR_JITTER + 1, 3)
    red, green, blue = (np.array(PALETTE[color]) + jitter).tolist()
    return red, green, blue


def _sample_distractor(rng: np.random.Generator, frames: int, settings: ToySettings) -> ToySprite:
    """Draw a grey shape, visible in all or a part of the film, resting or drifting."""
    grey = int(rng.integers(130, 241))
    start, end = 0, frames
    if rng.random() < 0.5:
        length = _sample_frames(rng, settings.min_event_s, frames / settings.fps, settings.fps)
        start = int(rng.integers(0, frames - length + 1))
        end = start + length
    first, last = sample_drift(rng, moving=bool(rng.random() < 0.5))
    return ToySprite(
        str(rng.choice(SHAPES)),
        (grey, grey, grey),
        start / settings.fps,
        end / settings.fps,
        first,
        last,
    )
