"""How long a run will take still, guessed from the bytes of the videos that are done.

Bytes stand for work: of two videos made alike, the one twice as large takes twice as long. Pure
arithmetic over a clock that is handed in.
"""

from collections.abc import Mapping


class RemainingTime:
    """Estimates what is left of a run.

    weights: for every video that there is work on, its size. Others take no time.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._left = sum(self._weights.values())
        self._done = 0.0
        self._current: dict[str, float] = {}  # of what is worked on, the share that is done
        self._began_s: float | None = None

    def started(self, path: str, now_s: float) -> None:
        """A video's turn has come. now_s: of any clock that only goes forward."""
        self._current[path] = 0.0
        if self._weights.get(path) and self._began_s is None:
            self._began_s = now_s

    def moved(self, path: str, share: float) -> None:
        """So much of a video is done, in [0, 1]."""
        self._current[path] = share

    def finished(self, path: str, *, worked: bool = True) -> None:
        """Count a video as finished.

        Args:
            path: of the video.
            worked: whether the model went through all of it. One that failed or was skipped says
                nothing about the speed.
        """
        weight = self._weights.pop(path, 0.0)
        self._left -= weight
        if worked:
            self._done += weight
        self._current.pop(path, None)

    def left_s(self, now_s: float) -> float | None:
        """Seconds that are left, at the speed so far; None while nothing is known of it."""
        begun = sum(self._weights.get(path, 0.0) * share for path, share in self._current.items())
        done = self._done + begun
        if self._began_s is None or done <= 0:
            return None
        return max(0.0, (now_s - self._began_s) * (self._left - begun) / done)


def spoken(seconds: float) -> str:
    """A duration as people say it, coarsely: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
