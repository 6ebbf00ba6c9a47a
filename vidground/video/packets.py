"""A list of a video stream's packets: when each is shown, and what it is good for.

Knows only numbers: no files, no decoder.
"""

from array import array
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidground.video.sampling import Ticks

MISSING = np.iinfo(np.int64).min
"""Time of a packet whose container stores none."""

_JUMP_S = 1
_LARGEST_TIME = 1 << 60
"""Times beyond this are damage, and would overflow when subtracted."""


@dataclass(frozen=True)
class Packets:
    """The packets of one video stream, in the order of decoding.

    times: (n,) presentation times in ticks; decoding times if presentation times are incomplete
    and those are not; MISSING where there is none. durations: (n,) ticks, 0 if unknown.
    keys: (n,) decoding can start here. shown: (n,) gives a frame that a player shows (an edit
    list may hide it). jumps: packets before which the clock was set back by more than a second.
    complete: times are presentation times, and every shown packet has one. open_groups: some
    pictures after a key packet may speak of pictures before it. damaged: packets the container
    itself marks as damaged.
    """

    times: Ticks
    durations: Ticks
    keys: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    jumps: tuple[int, ...]
    complete: bool
    open_groups: bool
    damaged: int

    def __len__(self) -> int:
        return len(self.times)


class PacketList:
    """Gathers what `Packets` holds, packet by packet, some tens of bytes each.

    time_base: seconds a tick.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._jump_ticks = int(_JUMP_S / time_base)
        self._pts, self._dts, self._durations = array("q"), array("q"), array("q")
        self._keys, self._shown = bytearray(), bytearray()
        self._jumps: list[int] = []
        self._last_dts = MISSING
        self._damaged = 0

    def append(
        self,
        pts: int | None,
        dts: int | None,
        *,
        duration: int | None,
        key: bool,
        shown: bool,
        damaged: bool,
    ) -> None:
        """Add the next packet, in the order of decoding; see `Packets`."""
        decoded_at = _sane(dts)
        if decoded_at != MISSING:
            if self._last_dts != MISSING and decoded_at < self._last_dts - self._jump_ticks:
                self._jumps.append(len(self._pts))
            self._last_dts = decoded_at
        self._pts.append(_sane(pts))
        self._dts.append(decoded_at)
        self._durations.append(min(max(duration or 0, 0), _LARGEST_TIME))
        self._keys.append(key)
        self._shown.append(shown)
        self._damaged += damaged

    def packets(self, *, by_decoding: bool, open_groups: bool) -> Packets:
        """Return the packets. by_decoding: presentation times are not to be trusted."""
        pts, dts = np.frombuffer(self._pts, np.int64), np.frombuffer(self._dts, np.int64)
        shown = np.frombuffer(self._shown, np.bool_)
        incomplete = by_decoding or bool(np.any(pts[shown] == MISSING))
        use_dts = incomplete and not np.any(dts[shown] == MISSING)
        return Packets(
            times=dts if use_dts else pts,
            durations=np.frombuffer(self._durations, np.int64),
            keys=np.frombuffer(self._keys, np.bool_),
            shown=shown,
            jumps=tuple(self._jumps),
            complete=not incomplete,
            open_groups=open_groups,
            damaged=self._damaged,
        )


def _sane(time: int | None) -> int:
    return MISSING if time is None or abs(time) > _LARGEST_TIME else time
