"""How a decoded picture is turned before it is shown. Knows only numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Orientation:
    """Rotation by right angles and mirroring: transposed first, then mirrored.

    Attributes:
        transpose: swap rows and columns.
        mirror_x: then swap left and right.
        mirror_y: then swap top and bottom.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: Sequence[int]) -> Self:
        """Read a container's display matrix (a, b, u, c, d, v, x, y, w).

        It shows pixel (x, y) at (a x + c y, b x + d y), up to a shift. Other angles are rounded
        to the nearest right angle.
        """
        a, b, _, c, d = matrix[:5]
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
        return cls(mirror_x=a < 0, mirror_y=d < 0)


UPRIGHT = Orientation()
