"""Estimate the remaining time of a run from the sizes of the videos that are done.

Work is assumed to be proportional to the size of a video. The caller passes the time.
"""

from collections.abc import Mapping


class RemainingTime:
    """Estimates the remaining time of a run.

    Args:
        weights: size of every video to process; other videos take no time.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._left = sum(self._weights.values())
        self._done = 0.0
        self._current: dict[str, float] = {}  # share done of each video in progress
        self._began_s: float | None = None

    def started(self, path: str, now_s: float) -> None:
        """Start a video.

        Args:
            path: of the video.
            now_s: of a monotonic clock.
        """
        self._current[path] = 0.0
        if self._weights.get(path) and self._began_s is None:
            self._began_s = now_s

    def moved(self, path: str, share: float) -> None:
        """Set the share of a video that is done, in [0, 1]."""
        self._current[path] = share

    def finished(self, path: str, *, worked: bool = True) -> None:
        """Count a video as finished.

        Args:
            path: of the video.
            worked: whether the model processed all of it; only then does it count for the speed.
        """
        weight = self._weights.pop(path, 0.0)
        self._left -= weight
        if worked:
            self._done += weight
        self._current.pop(path, None)

    def left_s(self, now_s: float) -> float | None:
        """Return the remaining seconds at the speed so far; None while it is unknown."""
        begun = sum(self._weights.get(path, 0.0) * share for path, share in self._current.items())
        done = self._done + begun
        if self._began_s is None or done <= 0:
            return None
        return max(0.0, (now_s - self._began_s) * (self._left - begun) / done)


def spoken(seconds: float) -> str:
    """Return a rounded duration for people: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
