"""What a model answered about a video, window by window, before anyone reads it."""

from __future__ import annotations

from dataclasses import dataclass

from vidground.features.windows import Window, span_seconds
from vidground.generation.generation_queue import Generation
from vidground.video.info import VideoInfo


@dataclass(frozen=True)
class Answer:
    """What the model generated for one prompt on one window."""

    window: Window
    prompt: int
    generation: Generation


@dataclass(frozen=True)
class Answers:
    """All answers on one video, by window and then by prompt, and what is known of the video.

    times_s: the sampled instants. period_s: their distance. windows: those that were asked.
    """

    info: VideoInfo
    times_s: tuple[float, ...]
    period_s: float
    windows: tuple[Window, ...]
    answers: tuple[Answer, ...]
    warnings: tuple[str, ...]

    def of(self, prompt: int) -> list[Generation]:
        """The answers to one prompt, a window each."""
        return [answer.generation for answer in self.answers if answer.prompt == prompt]

    def seconds(self, first: int, last: int) -> tuple[float, float]:
        """Inclusive samples of the video as half-open seconds; see `windows.span_seconds`."""
        return span_seconds(
            self.times_s, first, last, period_s=self.period_s, duration_s=self.info.duration_s
        )
