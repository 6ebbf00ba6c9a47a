"""What annotations are read to: samples with one answer or with preferences, and their faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidground.training.data.perturbation import Factor, factor_of

Kind = Literal["sft", "fpo"]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: "1 sample", "2 samples"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of a sample or a file.

    Attributes:
        file: the annotation file.
        index: place of the sample in the file, from 0; None for the file as a whole.
        reason: what is wrong.
    """

    file: Path
    index: int | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.index is None else f" sample {self.index}:"
        return f"{self.file}:{place} {self.reason}"


@dataclass(frozen=True, slots=True)
class AnnotatedResponse:
    """A response: K `<evi>`, `</evi>`, then text with the same K `<evi>` (paper, section 3.2).

    Attributes:
        text: the response.
        tgt: start and end of the K intervals as flat pairs, in seconds.
    """

    text: str
    tgt: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedResponse(AnnotatedResponse):
    """A perturbed response.

    Attributes:
        name: of the variant, as in the file.
    """

    name: str = ""

    @property
    def factor(self) -> Factor:
        """The factor that is wrong, by the variant's name."""
        return factor_of(self.name)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A question about a video, and the answer to imitate.

    Attributes:
        file: the annotation file.
        index: place of the sample in the file, from 0.
        task: such as "tvg" or "dvc".
        source: data set that the sample comes from.
        video: as annotated, relative to the videos' folder, with /.
        path: the file of the video in the videos' folder; `video` itself if no folder was named.
        duration_s: of the video, as annotated, in seconds.
        question: the human turn, with at most one `<image>`.
        src: seconds of the intervals of `<evi>` in the question: flat pairs, or one instant.
        response: the answer to imitate.
    """

    file: Path
    index: int
    task: str
    source: str
    video: str
    path: Path
    duration_s: float
    question: str
    src: tuple[float, ...]
    response: AnnotatedResponse


@dataclass(frozen=True, slots=True)
class PreferenceAnnotation(Annotation):
    """A question about a video, the answer to prefer, and several that are wrong in one way each.

    Attributes:
        variants: the wrong answers; `response` is the one to prefer.
        drawn: index of the variant that training rejects.
    """

    variants: tuple[RejectedResponse, ...]
    drawn: int

    @property
    def rejected(self) -> RejectedResponse:
        """The response to reject."""
        return self.variants[self.drawn]


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """Usable samples and the faults of the others.

    Attributes:
        annotations: samples that can be used.
        problems: faults of samples and files.
        missing: samples that are sound, but whose video is in none of the videos' folders.
        missing_videos: the `video` of each of these, once.
    """

    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...]
    missing: tuple[Problem, ...] = ()
    missing_videos: tuple[str, ...] = ()
