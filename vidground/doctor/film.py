"""A film that is computed, so that a self-test needs no file: pictures, questions, and a video.

Every pixel comes from arithmetic on integers and is the same on every machine.
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
"""Of the pictures, in pixels; what the bundled model looks at."""

PICTURES = 12
_SHOWN = range(3, 9)
"""The pictures that show a green square, which grows."""

_GREEN, _DARK = (50, 168, 62), (16, 16, 16)

VIDEO_TICKS = (0, 4, 13, 19, 21, 30, 36, 52, 55, 61)
"""Times of the pictures of `write_film`, in tenths of a second: uneven, as of a phone's camera."""

TICKS_PER_SECOND = 10
_DARKEST, _GREY_STEP = 24, 22


def draw_film() -> NDArray[np.uint8]:
    """Twelve pictures, one per second: (12, 64, 64, 3) RGB."""
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
    """What is asked about the film: what happens in it, what does not, and everything."""
    present, absent = "a green square grows", "a red cross moves left"
    texts = [grounding_question(present), grounding_question(absent), captioning_question()]
    return [chat_prompt(text) for text in texts]


def write_film(path: Path) -> None:
    """Write a video whose pictures are shown at `VIDEO_TICKS`, each in a grey of its own.

    Its pictures refer to later ones, so that they are not stored in the order they are shown.
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
    """Which picture of the written film this is, by its grey."""
    return round((float(pixels.mean()) - _DARKEST) / _GREY_STEP)


def _greys() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for number, tick in enumerate(VIDEO_TICKS):
        yield tick, np.full((SIDE, SIDE, 3), _DARKEST + _GREY_STEP * number, np.uint8)
