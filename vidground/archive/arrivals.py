"""Which of the files that are there are complete: those that have stopped growing.

Goes by the states of files and a clock, both of which are handed in. Knows neither folders nor
what becomes of a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidground.storage.files import FileState

SETTLE_S = 5.0
"""A file that was the same for so long is complete, unless another time is asked for."""


class Arrivals:
    """Tells which files are complete, each once, and once more whenever it has changed.

    settle_s: a file that was the same for so long is complete. Not its time of change but what
    is seen counts: clocks of other machines differ, and copying can set any time.
    """

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, _Seen] = {}

    def look(self, states: Mapping[Path, FileState], now_s: float) -> list[Path]:
        """Return the files that are complete and were not told yet as they are now.

        states: of all files that are there, in the order they are to be told in. now_s: of any
        clock that only goes forward.
        """
        for gone in self._seen.keys() - states.keys():
            del self._seen[gone]
        ready = []
        for path, state in states.items():
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                self._seen[path] = _Seen(state, now_s)
            elif not seen.told and now_s - seen.since_s >= self._settle_s:
                seen.told = True
                ready.append(path)
        return ready

    def again(self, path: Path) -> None:
        """Let the next look tell a file once more."""
        if path in self._seen:
            self._seen[path].told = False

    @property
    def waiting(self) -> int:
        """How many files are there that were not told yet as they are now."""
        return sum(not seen.told for seen in self._seen.values())


@dataclass(slots=True)
class _Seen:
    """A file as it was seen last, since when it is like that, and whether that was told."""

    state: FileState
    since_s: float
    told: bool = False
