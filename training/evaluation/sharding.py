"""Split the videos of a run among processes or machines, and find each one's folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vidground.errors import InputError
from vidground.training.evaluation.questions import Question, by_video

SHARDS = "shards"
"""Folder, in a folder of predictions, of the shards that are not merged yet."""

_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run: every `count`-th video.

    Attributes:
        index: from 1 to `count`.
        count: number of parts.

    Raises:
        InputError: the index is out of range.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(
                f"shard is {self.index}/{self.count}; it must be one of 1/{max(self.count, 1)} to "
                f"{max(self.count, 1)}/{max(self.count, 1)}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard written as `2/8`.

        Raises:
            InputError: the text has another form, or the index is out of range.
        """
        match = _SHARD.fullmatch(text)
        if match is None:
            raise InputError(f"shard is {text!r}; it must be like 2/8: the second of eight parts")
        return cls(int(match[1]), int(match[2]))

    def take(self, questions: Iterable[Question]) -> list[Question]:
        """Return this part's questions; all questions on a video are in the same part."""
        videos = list(by_video(questions).values())
        return [question for asked in videos[self.index - 1 :: self.count] for question in asked]

    def folder(self, parent: Path) -> Path:
        """Return where this part's predictions lie in a folder of predictions."""
        return parent / SHARDS / f"{self.index}-of-{self.count}"


def shard_folders(parent: Path) -> list[Path]:
    """Return the folders of shards that lie in a folder of predictions, by name."""
    folder = parent / SHARDS
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
