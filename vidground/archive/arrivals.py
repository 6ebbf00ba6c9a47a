"""Detect which files in a watched folder are complete: those that have stopped changing.

The caller passes the states of files and the time. Knows neither folders nor what is done with a
file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SETTLE_S = 5.0
"""Default time in seconds without a change after which a file is complete."""


class Arrivals:
    """Reports which files are complete, each once, and again after every change.

    Args:
        settle_s: time without an observed change after which a file is complete. Modification
            times do not count: clocks of other machines differ, and copying can set any time.
    """

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, _Seen] = {}

    def look(self, states: Mapping[Path, object], now_s: float) -> list[Path]:
        """Return the files that are complete and not reported yet in their present state.

        Args:
            states: of all existing files, in the order in which to report them; a file has changed
                when its state is not equal to the one before.
            now_s: of a monotonic clock.
        """
        for gone in self._seen.keys() - states.keys():
            del self._seen[gone]
        ready = []
        for path, state in states.items():
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                self._seen[path] = _Seen(state, now_s)
            elif not seen.reported and now_s - seen.since_s >= self._settle_s:
                seen.reported = True
                ready.append(path)
        return ready

    def again(self, path: Path) -> None:
        """Report a file again at the next look."""
        if path in self._seen:
            self._seen[path].reported = False

    @property
    def waiting(self) -> int:
        """Number of files that were not reported yet in their present state."""
        return sum(not seen.reported for seen in self._seen.values())


@dataclass(slots=True)
class _Seen:
    """A file as it was seen last, since when, and whether it was reported."""

    state: object
    since_s: float
    reported: bool = False
