"""Annotations of videos: E.T. Instruct with evidence (SFT), and preference pairs (FPO).

Reading checks every field of every sample, so that nothing fails in the middle of a training run;
a problem names file, sample and reason. Opens no video and knows neither tokens nor models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vidground.errors import InputError, VidgroundError
from vidground.training.data.annotation_fields import FieldError
from vidground.training.data.annotation_files import read_samples
from vidground.training.data.annotation_types import (
    AnnotatedResponse,
    Annotation,
    AnnotationReport,
    Kind,
    PreferenceAnnotation,
    Problem,
    RejectedResponse,
    counted,
)
from vidground.training.data.sample_reader import MissingVideoError, SampleReader

__all__ = [
    "REJECTED_SEED",
    "AnnotatedResponse",
    "Annotation",
    "AnnotationError",
    "AnnotationReport",
    "Kind",
    "PreferenceAnnotation",
    "Problem",
    "RejectedResponse",
    "check_annotations",
    "check_samples",
    "counted",
    "load_annotations",
    "videos_of",
]

REJECTED_SEED = 42
"""Seed of the draw of rejected responses, as in the released training data."""

_SHOWN = 5  # problems quoted in an error; the count covers all


class AnnotationError(VidgroundError):
    """Annotations cannot be used: which samples, and why."""


def load_annotations(
    paths: Sequence[str | Path],
    *,
    video_root: str | Path | Sequence[str | Path] | None = None,
    kind: Kind = "sft",
    seed: int = REJECTED_SEED,
    placement_seed: int | None = None,
    keep_missing: bool = False,
) -> list[Annotation]:
    """Return all samples of some files, in order.

    Args:
        paths: see `check_annotations`, as for the other arguments.
        keep_missing: return samples with a missing video too, with the `path` where it should be.

    Raises:
        AnnotationError: a file or a sample cannot be used, or a video is missing.
    """
    if not paths:
        raise InputError("0 annotation files given; name at least one")
    reader = SampleReader.of(video_root, kind, seed, placement_seed)
    report = _report(reader, paths, keep_missing=keep_missing)
    if report.problems or report.missing:
        raise AnnotationError(_complaint(report))
    return list(report.annotations)


def check_annotations(
    paths: Sequence[str | Path],
    *,
    video_root: str | Path | Sequence[str | Path] | None = None,
    kind: Kind = "sft",
    seed: int = REJECTED_SEED,
    placement_seed: int | None = None,
    strict: bool = False,
) -> AnnotationReport:
    """Read files and check every field; reading goes on after a sample with a problem.

    Args:
        paths: JSON lists, or JSON Lines (`.jsonl`).
        video_root: folder or folders that `video` is relative to, searched in order; a video may
            have another suffix there. None leaves open whether the videos exist.
        kind: "sft" for samples with one answer, "fpo" for chosen and rejected answers.
        seed: of the draw of one rejected response for each sample. Samples of a file are drawn
            for in order, as the released training data was made.
        placement_seed: a question without `<image>` has the frames before it; with a seed,
            before or after it at random, as in the released training.
        strict: also report what training accepts but hardly anybody wants: samples that repeat
            another one, and empty lists of times.
    """
    if not paths:
        raise InputError("0 annotation files given; name at least one")
    reader = SampleReader.of(video_root, kind, seed, placement_seed, strict=strict)
    report = _report(reader, paths)
    if not strict:
        return report
    problems = (*report.problems, *_repeated(report.annotations))
    repeated = {(problem.file, problem.index) for problem in problems}
    kept = tuple(a for a in report.annotations if (a.file, a.index) not in repeated)
    return AnnotationReport(kept, problems, report.missing, report.missing_videos)


def kind_of(paths: Iterable[str | Path]) -> Kind:
    """Return the kind of annotation files, as their first sample shows it.

    "sft" if there is no sample to see it in; checking the files reports why.
    """
    for path in map(Path, paths):
        try:
            first = read_samples(path)[0]
        except FieldError:
            continue
        turns = first.get("conversations") if isinstance(first, dict) else None
        return "fpo" if isinstance(turns, dict) else "sft"
    return "sft"


def check_samples(samples: Iterable[Any], *, kind: Kind = "sft") -> AnnotationReport:
    """Check samples that are in no file yet, as `check_annotations` does; `file` is `-`."""
    return _checked(SampleReader.of(None, kind, REJECTED_SEED, None), [(Path("-"), list(samples))])


def videos_of(annotations: Iterable[Annotation]) -> list[Path]:
    """Return the videos' files, each once, in order."""
    return list(dict.fromkeys(annotation.path for annotation in annotations))


def _report(
    reader: SampleReader, paths: Sequence[str | Path], *, keep_missing: bool = False
) -> AnnotationReport:
    files: list[tuple[Path, list[Any] | FieldError]] = []
    for path in map(Path, paths):
        try:
            files.append((path, read_samples(path)))
        except FieldError as error:
            files.append((path, error))
    return _checked(reader, files, keep_missing=keep_missing)


def _checked(
    reader: SampleReader,
    files: Iterable[tuple[Path, list[Any] | FieldError]],
    *,
    keep_missing: bool = False,
) -> AnnotationReport:
    """Check the samples of files in order; an error stands for a file that cannot be read."""
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    missing: list[Problem] = []
    videos: dict[str, None] = {}
    for path, samples in files:
        if isinstance(samples, FieldError):
            problems.append(Problem(path, None, str(samples)))
            continue
        for index, sample in enumerate(samples):
            try:
                annotations.append(reader.annotation(path, index, sample))
            except MissingVideoError as error:
                if keep_missing:
                    annotations.append(error.annotation)
                    continue
                missing.append(Problem(path, index, str(error)))
                videos[error.annotation.video] = None
            except FieldError as error:
                problems.append(Problem(path, index, str(error)))
    return AnnotationReport(tuple(annotations), tuple(problems), tuple(missing), tuple(videos))


def _repeated(annotations: Iterable[Annotation]) -> list[Problem]:
    """Return a problem for each sample that equals an earlier one in all that training sees."""
    first: dict[Any, Annotation] = {}
    problems = []
    for annotation in annotations:
        variants = annotation.variants if isinstance(annotation, PreferenceAnnotation) else ()
        about = (annotation.path, annotation.duration_s, annotation.question, annotation.src)
        known = first.setdefault((about, annotation.response, variants), annotation)
        if known is not annotation:
            reason = f"repeats sample {known.index} of {known.file}; remove one of them"
            problems.append(Problem(annotation.file, annotation.index, reason))
    return problems


def _complaint(report: AnnotationReport) -> str:
    """Return the message of an error about unusable samples; missing videos are counted apart."""
    parts = []
    if report.problems:
        count = len(report.problems)
        shown = "; ".join(map(str, report.problems[:_SHOWN]))
        more = f"; and {count - _SHOWN} more, see: vidground data validate"
        parts.append(
            f"{counted(count, 'problem')} in annotations; repair or remove these samples: "
            f"{shown}{more * (count > _SHOWN)}"
        )
    if report.missing:
        samples = counted(len(report.missing), "sample")
        videos = counted(len(report.missing_videos), "missing video")
        parts.append(
            f"{samples} of {videos}; add the videos, or leave such samples out "
            f"(data.unreadable: skip): {report.missing[0]}"
        )
    return "; ".join(parts)
