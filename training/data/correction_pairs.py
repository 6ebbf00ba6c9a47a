"""Preference pairs from corrected results: what was predicted is rejected, the correction chosen.

A result is a JSON file of `vidground caption` or `vidground query`; the correction is the same
file with times or texts edited. Each pair is wrong in one factor, times or text. Opens no video.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vidground.errors import InputError, VidgroundError
from vidground.language.prompts import FRAMES
from vidground.results.documents import video_of
from vidground.results.formats import Result, load
from vidground.results.types import Captions, GroundingResult, Groundings, Provenance
from vidground.training.data.annotations import check_annotations
from vidground.training.data.answer_events import AnnotatedAnswer
from vidground.training.data.correction_answers import (
    TEXT,
    TIMES,
    caption_answer,
    query_answer,
    rejected_answers,
)
from vidground.training.data.perturbation import CHOSEN

SOURCE = "corrected"
"""The `source` of the samples."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a comparison gave.

    samples: preference annotations, each with one rejected answer. answers: how many were
    compared. identical: how many of them nothing was changed in. failures: what could not be
    used, and why. unmatched: names that only one of two folders holds.
    """

    samples: tuple[Mapping[str, Any], ...]
    answers: int
    identical: int
    failures: tuple[str, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Samples by what is wrong in them: "times" and "text"."""
        names = [name for s in self.samples for name in s["conversations"] if name != CHOSEN]
        return {"times": names.count(TIMES), "text": names.count(TEXT)}


def pairs_of_files(
    predicted: str | Path, corrected: str | Path, *, videos: str | Path | None = None
) -> Pairs:
    """Compare two result files, or those of two folders that have the same relative name.

    Args:
        videos: folder that the samples' `video` shall be relative to; the videos must lie in it.
            None takes the results' own paths, which must be relative then.

    Raises:
        InputError: the paths do not exist, are not of one kind, or have no name in common.
    """
    matched, unmatched = _matched(Path(predicted), Path(corrected))
    root = None if videos is None else Path(videos)
    samples: list[dict[str, Any]] = []
    origins: list[Path] = []
    failures: list[str] = []
    answers = identical = 0
    for old, new in matched:
        try:
            found = list(preference_samples(load(old), load(new), videos=root))
        except VidgroundError as error:
            failures.append(str(error) if str(new) in str(error) else f"{new}: {error}")
            continue
        answers += len(found)
        identical += sum(not made for made in found)
        samples += [sample for made in found for sample in made]
        origins += [new for made in found for _ in made]
    usable, problems = _checked(samples, origins)
    return Pairs(tuple(usable), answers, identical, (*failures, *problems), unmatched)


def preference_samples(
    predicted: Result, corrected: Result, *, videos: Path | None = None
) -> Iterator[list[dict[str, Any]]]:
    """For each answer of a result its samples: one for each factor that was corrected.

    Raises:
        InputError: the two are not about one video and the same questions, an answer cannot be
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
            chosen = query_answer(after, predicted=False)
            rejected = query_answer(before, predicted=True)
            yield _samples({"task": "tvg", **head}, before.provenance, chosen, rejected)
    else:
        raise InputError("one result holds captions and the other answers to queries")


def _samples(
    head: Mapping[str, Any],
    provenance: Provenance,
    chosen: AnnotatedAnswer,
    predicted: AnnotatedAnswer,
) -> list[dict[str, Any]]:
    """Samples in the released form, with one rejected answer each."""
    human = {"from": "human", "value": f"{FRAMES}\n{provenance.prompt}"}
    about = [time_s for span in provenance.about_s for time_s in span]
    made = []
    for name, answer in rejected_answers(chosen, predicted, fps=provenance.fps).items():
        said = {CHOSEN: chosen, name: answer}
        made.append(
            dict(head)
            | ({"src": about} if about else {})
            | {
                "tgt": {key: value.times_s for key, value in said.items()},
                "conversations": {
                    key: [human, {"from": "gpt", "value": value.text()}]
                    for key, value in said.items()
                },
            }
        )
    return made


def _same_queries(
    predicted: Groundings, corrected: Groundings
) -> Iterator[tuple[GroundingResult, GroundingResult]]:
    """The answers of both to each query of the correction; others may have been taken out."""
    waiting = list(predicted.results)
    for after in corrected.results:
        before = next((result for result in waiting if result.query == after.query), None)
        if before is None:
            raise InputError(f"the prediction has no answer to {after.query!r}; keep the queries")
        waiting.remove(before)
        yield before, after


def _matched(predicted: Path, corrected: Path) -> tuple[list[tuple[Path, Path]], tuple[str, ...]]:
    for path in (predicted, corrected):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    if predicted.is_dir() != corrected.is_dir():
        raise InputError(f"{predicted} and {corrected}: name two files, or two folders")
    if not predicted.is_dir():
        return [(predicted, corrected)], ()
    old, new = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
        for folder in (predicted, corrected)
    )
    if not old & new:
        raise InputError(f"{predicted} and {corrected} have no .json file of the same name")
    both = [(predicted / name, corrected / name) for name in sorted(old & new)]
    return both, tuple(sorted(old ^ new))


def _video_field(path: str, videos: Path | None) -> str:
    """The path of a video as annotations have it: relative to the videos' folder, with /."""
    if videos is None:
        given = PurePosixPath(path)
        if given.is_absolute() or ".." in given.parts:
            raise InputError(f"the video is {path}; say which folder it is to be relative to")
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


def _checked(
    samples: Sequence[dict[str, Any]], origins: Sequence[Path]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The samples that can be trained on, and what is wrong with the others."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.json"
        file.write_text(json.dumps(samples), encoding="utf-8")
        found = {p.index: p.reason for p in check_annotations([file], kind="fpo").problems}
    usable = [sample for index, sample in enumerate(samples) if index not in found]
    problems = [f"{origins[i]}: {why}" for i, why in found.items() if i is not None]
    return usable, list(dict.fromkeys(problems))
