"""Find a benchmark's annotations and videos in the folder that its authors publish.

Everything is checked before a model is loaded: what is missing is named together with where it
should be. Opens no video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidground.errors import InputError
from vidground.storage.files import VIDEO_SUFFIXES
from vidground.training.data.video_folders import VideoFolders
from vidground.training.evaluation.questions import Question

_NAMED = 3  # missing videos that a message names


@dataclass(frozen=True, slots=True)
class DataLayout:
    """Where a benchmark's files lie in its folder.

    Attributes:
        annotations: files or folders, relative to the folder; the first that exists is taken.
        videos: folders, the same way; the one that holds most of the videos is taken.
        source: where the data can be obtained.
    """

    annotations: tuple[str, ...]
    videos: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return (
            f"annotations: {' or '.join(self.annotations)}; "
            f"videos: {' or '.join(self.videos)}; available from {self.source}"
        )


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """The questions whose videos exist.

    Attributes:
        root: folder that the questions' videos are relative to.
        questions: with the video's actual path.
        missing: names of videos that were not found, each once.
        left_out: number of questions on them.
    """

    root: Path
    questions: tuple[Question, ...]
    missing: tuple[str, ...]
    left_out: int


def find_annotations(layout: DataLayout, root: Path) -> Path:
    """Return the annotations in a benchmark's folder.

    Raises:
        InputError: there are none; the message says what is needed.
    """
    for name in layout.annotations:
        if (root / name).exists():
            return root / name
    state = "has no annotations" if root.is_dir() else "is not a folder"
    raise InputError(f"{root}: {state}; needed are {layout}")


def find_videos(layout: DataLayout, root: Path, questions: Sequence[Question]) -> FoundVideos:
    """Return the questions whose videos are in a benchmark's folder.

    A video is found under its own name or with another suffix; one whose name has no folder also
    anywhere below the videos' folder, if only one video there has its name.

    Raises:
        InputError: there is no folder of videos, or none of the videos is in it.
    """
    folders = [root / name for name in layout.videos if (root / name).is_dir()]
    if not folders:
        raise InputError(f"{root}: has no folder of videos; needed are {layout}")
    found = max((_found_in(folder, questions) for folder in folders), key=_number_found)
    if not found.questions:
        raise InputError(
            f"{' or '.join(map(str, folders))}: holds none of the {len(found.missing)} videos, "
            f"such as {found.missing[0]}; needed are {layout}"
        )
    return found


def refuse_missing(found: FoundVideos) -> None:
    """Refuse to go on without some of the videos.

    Raises:
        InputError: at least one is missing.
    """
    if found.missing:
        raise InputError(f"{missing_videos(found)}; add them, or leave these questions out")


def missing_videos(found: FoundVideos) -> str:
    """Return the number of missing videos, the first of them, and the questions on them."""
    count = len(found.missing)
    named = ", ".join(found.missing[:_NAMED]) + (", …" if count > _NAMED else "")
    videos = "1 video is" if count == 1 else f"{count} videos are"
    asked = "1 question" if found.left_out == 1 else f"{found.left_out} questions"
    return f"{found.root}: {videos} missing ({named}), with {asked}"


def _number_found(found: FoundVideos) -> int:
    return len(found.questions)


def _found_in(folder: Path, questions: Sequence[Question]) -> FoundVideos:
    places: dict[str, str | None] = {}
    folders, below = VideoFolders([folder]), _VideosBelow(folder)
    for question in questions:
        if question.video not in places:
            path = folders.find(question.video) or below.find(question.video)
            places[question.video] = None if path is None else path.relative_to(folder).as_posix()
    kept = [
        replace(question, video=place, fields={**question.fields, "video": place})
        for question in questions
        if (place := places[question.video]) is not None
    ]
    missing = tuple(video for video, place in places.items() if place is None)
    return FoundVideos(folder, tuple(kept), missing, len(questions) - len(kept))


class _VideosBelow:
    """The videos in a folder and all folders below it, by name without suffix."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_stem: dict[str, list[Path]] | None = None

    def find(self, video: str) -> Path | None:
        if "/" in video:
            return None
        if self._by_stem is None:  # listed only if needed: archives are large
            self._by_stem = {}
            for path in self._folder.rglob("*"):
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    self._by_stem.setdefault(path.stem, []).append(path)
        found = self._by_stem.get(Path(video).stem, [])
        return found[0] if len(found) == 1 else None
