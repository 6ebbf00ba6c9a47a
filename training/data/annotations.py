"""Annotations of videos as E.T. Instruct writes them with evidence, and as FPO's pairs are written.

A file is a JSON list. Reading checks every field of every sample, so that nothing surprising is
left to be met in the middle of a training run; a problem names file, sample and reason. Opens no
video and knows neither tokens nor models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidground.errors import InputError, VidgroundError
from vidground.language.prompts import FRAMES
from vidground.training.data.annotation_fields import (
    FieldError,
    check_prompt,
    check_response,
    duration_of,
    label_of,
    seconds_of,
    turns_of,
    video_of,
)
from vidground.training.data.perturbation import CHOSEN, Factor, factor_of

Kind = Literal["sft", "fpo"]

REJECTED_SEED = 42
"""Seed of the draw of rejected responses, the one of the released training data."""

_SHOWN = 5  # problems quoted in an error; the count says how many there are


class AnnotationError(VidgroundError):
    """Annotations cannot be used: which samples, and why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a sample. index: its place in the file from 0; None for the file."""

    file: Path
    index: int | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.index is None else f" sample {self.index}:"
        return f"{self.file}:{place} {self.reason}"


@dataclass(frozen=True, slots=True)
class AnnotatedResponse:
    """A response: K `<evi>`, `</evi>`, then text with the same K `<evi>` (paper, section 3.2).

    tgt: start and end of the K intervals as flat pairs, in seconds.
    """

    text: str
    tgt: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedResponse(AnnotatedResponse):
    """A perturbed response. name: of the variant, as in the file."""

    name: str = ""

    @property
    def factor(self) -> Factor:
        """What is wrong in it, by its name."""
        return factor_of(self.name)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A question about a video, and the answer to imitate.

    file, index: where it stands. video: relative to the videos' folder, with /. duration_s: of
    the video, as annotated. question: the human turn, with at most one `<image>`. src: seconds
    of the intervals that `<evi>` in the question stand for: flat pairs, or one instant.
    """

    file: Path
    index: int
    task: str
    source: str
    video: str
    duration_s: float
    question: str
    src: tuple[float, ...]
    response: AnnotatedResponse


@dataclass(frozen=True, slots=True)
class PreferenceAnnotation(Annotation):
    """A question about a video, the answer to prefer, and several that are wrong in one way each.

    response: the one to prefer. drawn: index of the one of `variants` that training rejects.
    """

    variants: tuple[RejectedResponse, ...]
    drawn: int

    @property
    def rejected(self) -> RejectedResponse:
        """The response to reject."""
        return self.variants[self.drawn]


@dataclass(frozen=True, slots=True)
class AnnotationReport:
    """Samples that can be used, and what is wrong with the others."""

    annotations: tuple[Annotation, ...]
    problems: tuple[Problem, ...]


def load_annotations(
    paths: Sequence[str | Path],
    *,
    video_root: str | Path | None = None,
    kind: Kind = "sft",
    seed: int = REJECTED_SEED,
    placement_seed: int | None = None,
) -> list[Annotation]:
    """All samples of some files, in order; see `check_annotations` for the arguments.

    Raises:
        AnnotationError: a file or a sample cannot be used.
    """
    report = check_annotations(
        paths, video_root=video_root, kind=kind, seed=seed, placement_seed=placement_seed
    )
    if report.problems:
        count = len(report.problems)
        shown = "; ".join(map(str, report.problems[:_SHOWN]))
        more = f"; and {count - _SHOWN} more, see: vidground data validate"
        raise AnnotationError(
            f"{count} problem{'s' * (count > 1)} in annotations; repair or remove these samples: "
            f"{shown}{more * (count > _SHOWN)}"
        )
    return list(report.annotations)


def check_annotations(
    paths: Sequence[str | Path],
    *,
    video_root: str | Path | None = None,
    kind: Kind = "sft",
    seed: int = REJECTED_SEED,
    placement_seed: int | None = None,
) -> AnnotationReport:
    """Read files and check every field; a sample with a problem does not end the reading.

    Args:
        video_root: folder that `video` fields are relative to; None to leave open whether the
            files exist.
        kind: "sft" for samples with one answer, "fpo" for those with chosen and rejected ones.
        seed: of the draw of one rejected response for each sample. Samples of a file are drawn
            for in order, as the released training data was made.
        placement_seed: a question without `<image>` has the frames before it; with a seed,
            before or after it at random, as in the released training.
    """
    if not paths:
        raise InputError("0 annotation files given; name at least one")
    reader = _Reader(
        root=None if video_root is None else Path(video_root),
        kind=kind,
        draw=random.Random(seed),
        place=None if placement_seed is None else random.Random(placement_seed),
    )
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    for path in map(Path, paths):
        try:
            samples = _read_list(path)
        except FieldError as error:
            problems.append(Problem(path, None, str(error)))
            continue
        for index, sample in enumerate(samples):
            try:
                annotations.append(reader.annotation(path, index, sample))
            except FieldError as error:
                problems.append(Problem(path, index, str(error)))
    return AnnotationReport(tuple(annotations), tuple(problems))


def videos_of(annotations: Iterable[Annotation]) -> list[str]:
    """The `video` fields, each once, in order."""
    return list(dict.fromkeys(annotation.video for annotation in annotations))


@dataclass(frozen=True)
class _Reader:
    root: Path | None
    kind: Kind
    draw: random.Random
    place: random.Random | None

    def annotation(self, file: Path, index: int, sample: Any) -> Annotation:
        """Raises FieldError."""
        if not isinstance(sample, dict):
            raise FieldError(f"is {type(sample).__name__}; a sample is an object")
        conversations = sample.get("conversations")
        names = self._variant_names(conversations)
        # Drawn before anything is checked, so that a broken sample does not change the others'.
        drawn = self.draw.sample(range(len(names)), 1)[0] if names else 0
        question, answer = turns_of(_of_variant(conversations, CHOSEN), "conversations")
        common = Annotation(
            file=file,
            index=index,
            task=label_of(sample, "task"),
            source=label_of(sample, "source"),
            video=video_of(sample, self.root),
            duration_s=duration_of(sample),
            question=self._placed(question),
            src=seconds_of(_of_variant(sample.get("src"), CHOSEN), "src"),
            response=AnnotatedResponse(
                answer, seconds_of(_of_variant(sample.get("tgt"), CHOSEN), "tgt")
            ),
        )
        check_prompt(common.question, common.src, common.duration_s)
        check_response(answer, common.response.tgt, common.duration_s, "the answer")
        if self.kind == "sft":
            return common
        variants = tuple(_variant(sample, name, question, common) for name in names)
        return PreferenceAnnotation(
            **{name: getattr(common, name) for name in Annotation.__slots__},
            variants=variants,
            drawn=drawn,
        )

    def _variant_names(self, conversations: Any) -> list[str]:
        if self.kind == "sft":
            if isinstance(conversations, dict):
                raise FieldError("conversations is an object, as in preference data (kind 'fpo')")
            return []
        if not isinstance(conversations, dict):
            raise FieldError(
                f"conversations is {type(conversations).__name__}; in preference data it is an "
                f"object of {CHOSEN!r} and its rejected variants"
            )
        names = [name for name in conversations if name != CHOSEN]
        if CHOSEN not in conversations or not names:
            raise FieldError(
                f"conversations has {sorted(conversations)}; it needs {CHOSEN!r} and at least one "
                "rejected variant"
            )
        return names

    def _placed(self, question: str) -> str:
        """The question, with its frames put before or behind it if they are to be placed."""
        if self.place is None or FRAMES in question:
            return question
        first = self.place.randint(0, 1) == 0
        return f"{FRAMES}\n{question}" if first else f"{question}\n{FRAMES}"


def _variant(
    sample: dict[str, Any], name: str, question: str, common: Annotation
) -> RejectedResponse:
    where = f"variant {name!r}"
    try:
        factor_of(name)
    except InputError as error:
        raise FieldError(str(error)) from error
    asked, answer = turns_of(sample["conversations"][name], where)
    if asked != question:
        raise FieldError(f"{where} has a question of its own; it must be the chosen one's")
    tgt = seconds_of(_of_variant(sample.get("tgt"), name), f"tgt of {where}")
    check_response(answer, tgt, common.duration_s, where)
    if AnnotatedResponse(answer, tgt) == common.response:
        raise FieldError(f"{where} equals the chosen response; a pair must differ")
    return RejectedResponse(answer, tgt, name)


def _of_variant(value: Any, name: str) -> Any:
    """What an object says of a variant; a value that is none holds for all of them."""
    return value.get(name) if isinstance(value, dict) else value


def _read_list(path: Path) -> list[Any]:
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FieldError(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FieldError(f"is no JSON file: {error}") from error
    if not isinstance(samples, list):
        raise FieldError(f"holds {type(samples).__name__}; annotations are a list of objects")
    return samples
