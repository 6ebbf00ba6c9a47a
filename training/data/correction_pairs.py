"""Preference pairs from corrected results: the prediction is rejected, the correction chosen.

A result is a JSON file of `vidground caption` or `vidground query`. Its correction is the same
file with edited times or texts, or what an annotation tool or a subtitle editor made of it (see
`correction_files`). Each pair is wrong in one factor, times or text. Opens no video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidground.errors import InputError, VidgroundError
from vidground.language.prompts import FRAMES
from vidground.results.annotation_tools.correcting import read_correction
from vidground.results.documents import video_of
from vidground.results.formats import Result, load
from vidground.results.types import Captions, GroundingResult, Groundings, Provenance
from vidground.training.data.annotations import check_samples
from vidground.training.data.answer_events import AnnotatedAnswer
from vidground.training.data.correction_answers import (
    TEXT,
    TIMES,
    caption_answer,
    corrected_answer,
    predicted_answer,
    rejected_answers,
    same_answer,
)
from vidground.training.data.correction_files import Correction, find_corrections
from vidground.training.data.perturbation import CHOSEN

SOURCE = "corrected"
"""The `source` of the samples."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The outcome of a comparison of results with their corrections.

    Attributes:
        samples: preference annotations, each with one rejected answer.
        answers: number of answers compared.
        identical: number of answers without a correction.
        failures: what could not be used, and why.
        unmatched: names that only one of two folders holds.
    """

    samples: tuple[Mapping[str, Any], ...]
    answers: int
    identical: int
    failures: tuple[str, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples by their wrong factor: "times" and "text"."""
        names = [name for s in self.samples for name in s["conversations"] if name != CHOSEN]
        return {"times": names.count(TIMES), "text": names.count(TEXT)}


def pairs_of_files(
    predicted: str | Path, corrected: str | Path, *, videos: str | Path | None = None
) -> Pairs:
    """Compare results with their corrections.

    Args:
        predicted: a result, or a folder of results.
        corrected: a correction, or a folder of them; in folders, names tell what belongs together.
        videos: folder that the samples' `video` is relative to; the videos must lie in it. None
            takes the results' own paths, which must be relative then.

    Raises:
        InputError: the paths do not exist, are not of one kind, or have no name in common.
    """
    matched, unmatched = find_corrections(Path(predicted), Path(corrected))
    root = None if videos is None else Path(videos)
    samples: list[dict[str, Any]] = []
    origins: list[Path] = []
    failures: list[str] = []
    answers = identical = 0
    for correction in matched:
        try:
            path, found = _samples_of(correction, root)
        except VidgroundError as error:
            named = any(str(path) in str(error) for path in correction.corrected)
            failures.append(str(error) if named else f"{correction.corrected[0]}: {error}")
            continue
        answers += len(found)
        identical += sum(not made for made in found)
        samples += [sample for made in found for sample in made]
        origins += [path for made in found for _ in made]
    wrong = {p.index: p.reason for p in check_samples(samples, kind="fpo").problems}
    usable = tuple(sample for index, sample in enumerate(samples) if index not in wrong)
    problems = [f"{origins[i]}: {why}" for i, why in wrong.items() if i is not None]
    return Pairs(usable, answers, identical, (*failures, *dict.fromkeys(problems)), unmatched)


def preference_samples(
    predicted: Result, corrected: Result, *, videos: Path | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the samples of each answer of a result: one for each factor that was corrected.

    Args:
        predicted: as the model made it.
        corrected: as a person says it is right; queries may be missing.
        videos: folder that the samples' `video` is relative to; None takes the result's path.

    Raises:
        InputError: the two are not about one video and the same queries, an answer cannot be
            used, or the video does not lie in `videos`.
    """
    old, new = video_of(predicted), video_of(corrected)
    if (old.sha256 or old.path) != (new.sha256 or new.path):
        raise InputError(f"is about {new.path}, and the prediction about {old.path}")
    head = {"source": SOURCE, "video": _video_field(new.path, videos), "duration": new.duration_s}
    if isinstance(predicted, Captions) and isinstance(corrected, Captions):
        chosen = caption_answer(corrected.events, predicted=False)
        rejected = caption_answer(predicted.events, predicted=True)
        yield _samples({"task": "dvc", **head}, predicted.provenance, chosen, rejected)
    elif isinstance(predicted, Groundings) and isinstance(corrected, Groundings):
        for before, after in _same_queries(predicted, corrected):
            if same_answer(before, after):
                yield []
                continue
            chosen = corrected_answer(after, predicted=before)
            rejected = predicted_answer(before)
            yield _samples({"task": "tvg", **head}, before.provenance, chosen, rejected)
    else:
        raise InputError("one result holds captions and the other answers to queries")


def _samples_of(
    correction: Correction, root: Path | None
) -> tuple[Path, list[list[dict[str, Any]]]]:
    """Return the file that corrects a result, and the samples of each answer.

    Of several files with its name, such as a copied folder holds, the one that changes something.
    """
    predicted = load(correction.predicted)
    found = [
        (path, list(preference_samples(predicted, read_correction(path, predicted), videos=root)))
        for path in correction.corrected
    ]
    changed = [item for item in found if any(item[1])]
    if len(changed) > 1:
        names = " and ".join(str(path) for path, _ in changed)
        raise InputError(f"{names} both correct {correction.predicted}; keep one of them")
    return (changed or found)[0]


def _samples(
    head: Mapping[str, Any],
    provenance: Provenance,
    chosen: AnnotatedAnswer,
    predicted: AnnotatedAnswer,
) -> list[dict[str, Any]]:
    """Return samples in the released form, with one rejected answer each."""
    human = {"from": "human", "value": f"{FRAMES}\n{provenance.prompt}"}
    about = [time_s for span in provenance.about_s for time_s in span]
    made = []
    for name, answer in rejected_answers(chosen, predicted, fps=provenance.fps).items():
        responses = {CHOSEN: chosen, name: answer}
        made.append(
            dict(head)
            | ({"src": about} if about else {})
            | {
                "tgt": {key: value.times_s for key, value in responses.items()},
                "conversations": {
                    key: [human, {"from": "gpt", "value": value.text()}]
                    for key, value in responses.items()
                },
            }
        )
    return made


def _same_queries(
    predicted: Groundings, corrected: Groundings
) -> Iterator[tuple[GroundingResult, GroundingResult]]:
    """Yield both answers to each query of the correction, which may lack some."""
    waiting = list(predicted.results)
    for after in corrected.results:
        before = next((result for result in waiting if result.query == after.query), None)
        if before is None:
            raise InputError(f"the prediction has no answer to {after.query!r}; keep the queries")
        waiting.remove(before)
        yield before, after


def _video_field(path: str, videos: Path | None) -> str:
    """Return the path of a video as annotations have it: relative to the videos' folder, with /."""
    if videos is None:
        given = PurePosixPath(path)
        if given.is_absolute() or ".." in given.parts:
            raise InputError(
                f"the video is {path}; name the folder that samples are relative to (--videos)"
            )
        return given.as_posix()
    for candidate in (videos / path, Path(path)):
        # As it is named first: a symbolic link may lead out of the folder.
        for place, root in (
            (candidate.absolute(), videos.absolute()),
            (candidate.resolve(), videos.resolve()),
        ):
            if candidate.is_file() and place.is_relative_to(root) and ".." not in place.parts:
                return place.relative_to(root).as_posix()
    raise InputError(f"the video {path} does not lie in {videos}")
