"""Display matrices are read as players read them."""

import pytest

from vidground.video.orientation import Orientation

ONE = 1 << 16


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "expected"),
    [
        (ONE, 0, 0, ONE, Orientation()),
        (-ONE, 0, 0, ONE, Orientation(mirror_x=True)),
        (ONE, 0, 0, -ONE, Orientation(mirror_y=True)),
        (-ONE, 0, 0, -ONE, Orientation(mirror_x=True, mirror_y=True)),
        # (x, y) goes to (-y, x): the left edge becomes the top, a quarter turn to the right.
        (0, ONE, -ONE, 0, Orientation(transpose=True, mirror_x=True)),
        (0, -ONE, ONE, 0, Orientation(transpose=True, mirror_y=True)),
        (0, ONE, ONE, 0, Orientation(transpose=True)),
        # Two degrees off a quarter turn.
        (2287, 65496, -65496, 2287, Orientation(transpose=True, mirror_x=True)),
    ],
)
def test_display_matrix(a: int, b: int, c: int, d: int, expected: Orientation) -> None:
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    assert Orientation.from_display_matrix(matrix) == expected
