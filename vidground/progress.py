"""Report the progress on a video to a callback."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress on one video.

    Attributes:
        path: of the video.
        samples_done: number of sampled frames that are encoded.
        samples: number of sampled frames.
        answers_done: number of answers that are generated.
        answers: number of answers: one per prompt and window.
    """

    path: str
    samples_done: int
    samples: int
    answers_done: int
    answers: int


OnProgress = Callable[[Progress], None]


class Tracker:
    """Counts the progress on one video and reports every change."""

    def __init__(
        self, path: str, samples: int, answers: int, report: OnProgress | None, *, done: int = 0
    ) -> None:
        self._now = Progress(path, done, samples, 0, answers)
        self._report = report

    def samples(self, done: int) -> None:
        """Set the number of encoded samples."""
        self._update(replace(self._now, samples_done=done))

    def answered(self, more: int) -> None:
        """Add to the number of generated answers."""
        self._update(replace(self._now, answers_done=self._now.answers_done + more))

    def _update(self, now: Progress) -> None:
        self._now = now
        if self._report is not None:
            self._report(now)
