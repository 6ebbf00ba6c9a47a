"""A list of a video stream's packets: when each is shown, and what can be decoded from it.

Knows only numbers: no files, no decoder.
"""

from array import array
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidground.video.sampling import Ticks

MISSING = np.iinfo(np.int64).min
"""Time of a packet for which the container stores none."""

_LARGEST_TIME = 1 << 60
"""Times beyond this are damage, and would overflow when subtracted."""

_BACK_S = Fraction(1)
_RESTARTABLE_BACK_S = Fraction(1, 10)
_RESTARTABLE_AHEAD_S = Fraction(10)
"""Steps of the decoding clock beyond which it was set anew. Where a format lets clocks restart,
the limits are those of ffmpeg, so that its copies of a file have the same times."""
_AHEAD_STEPS = 10
"""A step ahead within this many usual steps is a low frame rate, not a jump."""

_BEFORE_JOIN = 3
"""A parser hands out the last packets of a part when it has already seen the next part."""


@dataclass(frozen=True)
class Packets:
    """The n packets of one video stream, in decoding order.

    Attributes:
        times: (n,) presentation times in ticks; decoding times if presentation times are
            incomplete and those are not; MISSING where there is none.
        durations: (n,) ticks, 0 if unknown.
        keys: (n,) whether decoding can start at the packet.
        shown: (n,) whether it gives a frame that a player shows; an edit list may hide it.
        jumps: packets before which the clock was set anew, back or ahead.
        complete: whether `times` are presentation times and every shown packet has one.
        open_groups: whether pictures after a key packet may refer to pictures before it.
        damaged: number of packets that the container marks as damaged.
        joins: packets marked as damaged only because another part was appended after them.
    """

    times: Ticks
    durations: Ticks
    keys: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    jumps: tuple[int, ...]
    complete: bool
    open_groups: bool
    damaged: int
    joins: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.times)


class PacketList:
    """Collects the contents of `Packets` packet by packet, in some tens of bytes each.

    Args:
        time_base: seconds per tick.
        restartable: whether the clocks of this format may restart, as in transport streams,
            where a large step ahead is a new clock and not a pause.
    """

    def __init__(self, time_base: Fraction, *, restartable: bool = False) -> None:
        self._time_base = time_base
        self._restartable = restartable
        self._pts, self._dts, self._durations = array("q"), array("q"), array("q")
        self._keys, self._shown = bytearray(), bytearray()
        self._damaged: list[int] = []

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
        """Add the next packet in decoding order; see `Packets`."""
        if damaged:
            self._damaged.append(len(self._pts))
        self._pts.append(_plausible(pts))
        self._dts.append(_plausible(dts))
        self._durations.append(min(max(duration or 0, 0), _LARGEST_TIME))
        self._keys.append(key)
        self._shown.append(shown)

    def packets(self, *, by_decoding: bool, open_groups: bool) -> Packets:
        """Return the packets.

        Args:
            by_decoding: whether presentation times cannot be trusted.
            open_groups: see `Packets`.
        """
        pts, dts = np.frombuffer(self._pts, np.int64), np.frombuffer(self._dts, np.int64)
        shown = np.frombuffer(self._shown, np.bool_)
        keys = np.frombuffer(self._keys, np.bool_)
        incomplete = by_decoding or bool(np.any(pts[shown] == MISSING))
        use_dts = incomplete and not np.any(dts[shown] == MISSING)
        jumps = self._jumps(pts, dts, keys, shown)
        # A part starts with a key packet; its clock may go on as if it were the same recording.
        starts = np.union1d(jumps, np.flatnonzero(keys)) if self._restartable else jumps
        joins = frozenset(i for i in self._damaged if _is_before_join(i, starts))
        return Packets(
            times=dts if use_dts else pts,
            durations=np.frombuffer(self._durations, np.int64),
            keys=keys,
            shown=shown,
            jumps=tuple(jumps.tolist()),
            complete=not incomplete,
            open_groups=open_groups,
            damaged=len(self._damaged) - len(joins),
            joins=joins,
        )

    def _jumps(
        self,
        pts: Ticks,
        dts: Ticks,
        keys: npt.NDArray[np.bool_],
        shown: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.int64]:
        """Return the packets before which the clock was set anew.

        Packets that an edit list hides are skipped: those that lead up to a later part carry
        earlier times although the presentation simply goes on.
        """
        timed = np.flatnonzero(shown & (dts != MISSING))
        steps = np.diff(dts[timed])
        later = timed[1:]
        if not self._restartable:
            # A part of an edit list may begin as far back as pictures are reordered, but is
            # never shown before what precedes it.
            latest = np.maximum.accumulate(pts[timed])[:-1]
            back_ticks = int(_BACK_S / self._time_base)
            untimed = (pts[later] == MISSING) | (latest == MISSING)
            shown_earlier = untimed | (pts[later] < latest - back_ticks)
            return np.asarray(later[(steps < -back_ticks) & shown_earlier], np.int64)
        forward = steps[steps > 0]
        usual = float(np.median(forward)) if len(forward) else 0.0
        ahead_ticks = max(float(_RESTARTABLE_AHEAD_S / self._time_base), _AHEAD_STEPS * usual)
        back = (steps < -float(_RESTARTABLE_BACK_S / self._time_base)) | ((steps < 0) & keys[later])
        return np.asarray(later[back | (steps > ahead_ticks)], np.int64)


def _is_before_join(index: int, starts: npt.NDArray[np.int64]) -> bool:
    """Return whether a part may start at a packet or soon after it; `starts` is sorted."""
    position = int(np.searchsorted(starts, index))
    return position < len(starts) and int(starts[position]) <= index + _BEFORE_JOIN


def _plausible(time: int | None) -> int:
    return MISSING if time is None or abs(time) > _LARGEST_TIME else time
