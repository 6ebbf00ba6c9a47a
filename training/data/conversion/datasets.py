"""Public data sets as training data in the released form, with the questions the weights know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from vidground.errors import InputError, VideoError
from vidground.language.prompts import FRAMES, captioning_question, grounding_question
from vidground.training.data.annotation_fields import FieldError
from vidground.training.data.annotation_files import read_samples
from vidground.training.data.annotations import check_samples
from vidground.training.data.answer_events import FOUND, AnnotatedAnswer
from vidground.training.data.conversion.et_instruct import evidence_sample
from vidground.training.data.conversion.readers import (
    DescribedMoments,
    read_activitynet,
    read_charades,
    read_charades_durations,
    read_qvhighlights,
)
from vidground.training.data.video_folders import VideoFolders

DatasetName = Literal["charades-sta", "activitynet-captions", "qvhighlights", "et-instruct"]
Task = Literal["tvg", "dvc"]

DATASETS: tuple[str, ...] = get_args(DatasetName)

_READERS: Mapping[str, Callable[[Path], list[DescribedMoments]]] = {
    "charades-sta": read_charades,
    "activitynet-captions": read_activitynet,
    "qvhighlights": read_qvhighlights,
}
_TASKS: Mapping[str, tuple[Task, ...]] = {
    "charades-sta": ("tvg",),
    "activitynet-captions": ("dvc", "tvg"),
    "qvhighlights": ("tvg",),
    "et-instruct": (),
}
_DOMAINS = {"charades-sta": "indoor activities"}
_DEFAULT_DOMAIN = "daily activities"


@dataclass(frozen=True, slots=True)
class Conversion:
    """Converted samples and the others.

    Attributes:
        samples: in the released form, checked.
        dropped: number of moments or samples left out, by reason.
        problems: what is wrong with single samples of the source.
        missing_videos: names of videos that are not in the videos' folder.
    """

    samples: tuple[Mapping[str, Any], ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    missing_videos: tuple[str, ...] = ()


def convert_dataset(
    name: DatasetName,
    source: Path,
    *,
    task: Task | None = None,
    videos: Path | None = None,
    durations: Path | None = None,
) -> Conversion:
    """Return the training samples of a data set's annotation file.

    Times beyond the end of a video are clipped to it; moments wholly outside are left out.

    Args:
        name: which data set the file is of.
        source: Charades-STA's text, ActivityNet Captions' JSON, QVHighlights' JSON Lines, or E.T.
            Instruct's JSON in the `_txt` or `_vid` form.
        task: "dvc" for one sample a video with all captions, or "tvg" for one a sentence; None
            for the first that the data set offers.
        videos: folder of the videos; samples of missing ones are left out, and a video may have
            any suffix. None leaves open whether they exist, and names them `.mp4`.
        durations: table of the seconds of each video, for Charades-STA, which lists none. Without
            it the videos in the folder are measured.

    Raises:
        InputError: the file cannot be read or has another form, or the data set has no such task.
    """
    offered = _TASKS[name]
    if task is not None and task not in offered:
        raise InputError(f"{name} has no task {task!r}; choose from {', '.join(offered) or 'none'}")
    folders = None if videos is None else VideoFolders([videos])
    if name == "et-instruct":
        return _converted_instructions(source, folders)
    moments = _READERS[name](source)
    known = None if durations is None else read_charades_durations(durations)
    converter = _Converter(name, folders, known)
    made = list(converter.samples(moments, task or offered[0]))
    report = check_samples(made)
    wrong = {problem.index: problem.reason for problem in report.problems}
    return Conversion(
        tuple(sample for index, sample in enumerate(made) if index not in wrong),
        dict(converter.dropped),
        (
            *converter.problems,
            *(f"{made[i]['video']}: {why}" for i, why in wrong.items() if i is not None),
        ),
        tuple(converter.missing),
    )


@dataclass
class _Converter:
    name: DatasetName
    folders: VideoFolders | None
    durations: Mapping[str, float] | None
    dropped: Counter[str] = field(default_factory=Counter)
    missing: dict[str, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def samples(self, moments: Sequence[DescribedMoments], task: Task) -> Iterator[dict[str, Any]]:
        """Yield the samples of a task, video by video."""
        by_video: dict[str, list[DescribedMoments]] = {}
        for moment in moments:
            by_video.setdefault(moment.video, []).append(moment)
        for video, of_video in by_video.items():
            file = f"{video}.mp4"
            path = None if self.folders is None else self.folders.find(file)
            if self.folders is not None and path is None:
                self.missing[file] = None
                self.dropped["their videos are missing"] += len(of_video)
                continue
            if path is not None:
                file = (PurePosixPath(file).parent / path.name).as_posix()
            duration_s = of_video[0].duration_s or self._duration(video, path)
            if duration_s is None:
                self.dropped["the durations of their videos are unknown"] += len(of_video)
                continue
            inside = list(self._inside(of_video, duration_s))
            head = {"source": self.name.replace("-", "_"), "video": file, "duration": duration_s}
            yield from _captioned(head, inside) if task == "dvc" else self._grounded(head, inside)

    def _duration(self, video: str, path: Path | None) -> float | None:
        if self.durations is not None:
            return self.durations.get(video)
        if path is None:
            return None
        # Here, so that reading a table needs no PyAV.
        from vidground.training.data.video_checks import duration_of

        try:
            return duration_of(path)
        except VideoError as error:
            self.problems.append(str(error))
            return None

    def _inside(
        self, moments: Sequence[DescribedMoments], duration_s: float
    ) -> Iterator[DescribedMoments]:
        for moment in moments:
            intervals = tuple(
                (start, min(end, duration_s))
                for start, end in moment.intervals
                if start < duration_s
            )
            self.dropped["they lie wholly outside their videos"] += len(moment.intervals) - len(
                intervals
            )
            if intervals:
                yield replace(moment, intervals=intervals)
        self.dropped += Counter()  # without zeros

    def _grounded(
        self, head: Mapping[str, Any], moments: Sequence[DescribedMoments]
    ) -> Iterator[dict[str, Any]]:
        domain = _DOMAINS.get(self.name, _DEFAULT_DOMAIN)
        for moment in moments:
            question = grounding_question(" ".join(moment.sentence.split()), domain=domain)
            answer = AnnotatedAnswer(moment.intervals, lead=FOUND, tail=".")
            yield _sample("tvg", head, question, answer)


def _captioned(
    head: Mapping[str, Any], moments: Sequence[DescribedMoments]
) -> Iterator[dict[str, Any]]:
    events = sorted(
        (interval, " ".join(moment.sentence.split()).rstrip(". "))
        for moment in moments
        for interval in moment.intervals
    )
    if events:
        answer = AnnotatedAnswer(
            intervals=tuple(interval for interval, _ in events),
            captions=tuple(caption for _, caption in events),
            opening=", ",
            closing=".",
        )
        yield _sample("dvc", head, captioning_question(), answer)


def _sample(
    task: str, head: Mapping[str, Any], question: str, answer: AnnotatedAnswer
) -> dict[str, Any]:
    return {
        "task": task,
        **head,
        "tgt": answer.times_s,
        "conversations": [
            {"from": "human", "value": f"{FRAMES}\n{question}"},
            {"from": "gpt", "value": answer.text()},
        ],
    }


def _converted_instructions(source: Path, folders: VideoFolders | None) -> Conversion:
    try:
        items = read_samples(source)
    except FieldError as error:
        raise InputError(f"{source}: {error}") from error
    made: list[dict[str, Any]] = []
    problems: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise FieldError(f"is {type(item).__name__}; a sample is an object")
            made.append(evidence_sample(item))
        except FieldError as error:
            problems[index] = str(error)
            made.append({})
    for problem in check_samples(made).problems:
        if problem.index is not None:
            problems.setdefault(problem.index, problem.reason)
    missing: Counter[str] = Counter()
    kept = []
    for index, sample in enumerate(made):
        if index in problems:
            continue
        path = None if folders is None else folders.find(sample["video"])
        if folders is not None and path is None:
            missing[sample["video"]] += 1
            continue
        if path is not None:
            video = PurePosixPath(sample["video"]).parent / path.name
            sample = sample | {"video": video.as_posix()}
        kept.append(sample)
    return Conversion(
        tuple(kept),
        {"their videos are missing": missing.total()} if missing else {},
        tuple(f"{source}: sample {index}: {why}" for index, why in sorted(problems.items())),
        tuple(missing),
    )
