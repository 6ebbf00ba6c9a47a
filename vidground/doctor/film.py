"""Draw the video of the self-test, which needs no file: frames, questions, and a written file.

Pixels are computed with integers and are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidground.language.prompts import Prompt, captioning_question, chat_prompt, grounding_question
from vidground.video.writing import write_h264

SIDE = 64
"""Side of the frames in pixels, as the bundled model expects it."""

PICTURES = 12
_SHOWN = range(3, 9)
"""Frames with a growing green square."""

_GREEN, _DARK = (50, 168, 62), (16, 16, 16)

VIDEO_TICKS = (0, 4, 13, 19, 21, 30, 36, 52, 55, 61)
"""Times of the frames of `write_film` in tenths of a second, irregular as from a phone's camera."""

TICKS_PER_SECOND = 10
_DARKEST, _GREY_STEP = 24, 22


def draw_film() -> NDArray[np.uint8]:
    """Return twelve frames, one per second: (12, 64, 64, 3) RGB."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    film = np.repeat((112 + (rows + columns) // 8)[None, ..., None], PICTURES, axis=0)
    film = np.repeat(film, 3, axis=-1).astype(np.uint8)
    y, x = 30, 28
    for number in _SHOWN:
        half = 5 + 2 * (number - _SHOWN.start)
        film[number][np.maximum(abs(rows - y), abs(columns - x)) <= half] = _GREEN
        dot = (rows - y + half // 2) ** 2 + (columns - x) ** 2 <= (half // 3) ** 2
        film[number][dot] = _DARK
    return film


def film_questions() -> list[Prompt]:
    """Return questions about the film: an event in it, an event not in it, and all events."""
    present, absent = "a green square grows", "a red cross moves left"
    texts = [grounding_question(present), grounding_question(absent), captioning_question()]
    return [chat_prompt(text) for text in texts]


def write_film(path: Path) -> None:
    """Write a video with frames at `VIDEO_TICKS`, each of its own grey.

    It has B-frames, so that frames are not stored in the order in which they are shown.
    """
    encoding = {"preset": "veryfast", "crf": "12", "bf": "2", "threads": "1"}
    write_h264(
        path,
        _greys(),
        rate=TICKS_PER_SECOND,
        time_base=Fraction(1, TICKS_PER_SECOND),
        encoding=encoding,
        container={},
    )


def picture_number(pixels: NDArray[np.uint8]) -> int:
    """Return the index of a frame of the written film, by its grey."""
    return round((float(pixels.mean()) - _DARKEST) / _GREY_STEP)


def _greys() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for number, tick in enumerate(VIDEO_TICKS):
        yield tick, np.full((SIDE, SIDE, 3), _DARKEST + _GREY_STEP * number, np.uint8)
