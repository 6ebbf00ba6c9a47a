"""Telling a caller how far a video is."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a video is: samples encoded, and answers (a prompt on a window) generated."""

    path: str
    samples_done: int
    samples: int
    answers_done: int
    answers: int


OnProgress = Callable[[Progress], None]


class Tracker:
    """Counts what is done on one video and tells who asked."""

    def __init__(
        self, path: str, samples: int, answers: int, report: OnProgress | None, *, done: int = 0
    ) -> None:
        self._now = Progress(path, done, samples, 0, answers)
        self._report = report

    def samples(self, done: int) -> None:
        """So many samples are encoded in all."""
        self._tell(replace(self._now, samples_done=done))

    def answered(self, more: int) -> None:
        """So many more answers are there."""
        self._tell(replace(self._now, answers_done=self._now.answers_done + more))

    def _tell(self, now: Progress) -> None:
        self._now = now
        if self._report is not None:
            self._report(now)
