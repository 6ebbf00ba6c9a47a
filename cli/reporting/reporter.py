"""What a reporter is told of a run over many videos, and how text is made safe to show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.progress import Progress

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading


def shown(text: str) -> str:
    """Return `text` in one line that a terminal only shows: what is not printable is escaped.

    Line breaks become `\\n`, bytes that are not UTF-8 `\\xff`, marks that reorder text `\\u202e`.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


class Reporter(ABC):
    """Tells of a run. Use as the target of `run_archive`'s callbacks."""

    @abstractmethod
    def watching(self, folders: Sequence[str]) -> None:
        """These folders are looked at from now on, again and again."""

    @abstractmethod
    def loading(self, loading: Loading) -> None:
        """This model is loaded now."""

    @abstractmethod
    def info(self, message: str) -> None:
        """Something that vidground logs for information, as that a model is fetched."""

    @abstractmethod
    def expect(self, weights: Mapping[str, float], *, total: int | None = None) -> None:
        """How large the videos are that there is work on, by path.

        total: how many inputs there are by now, if that was not known before.
        """

    @abstractmethod
    def plan(self, path: str, action: str, reason: str, outputs: Sequence[str]) -> None:
        """What would be done about an input ("work", "render", "skip", "failed"), and why."""

    @abstractmethod
    def event(self, event: Started | Waiting | FileReport) -> None:
        """A video begins, another run works on it, or it is known what became of it."""

    @abstractmethod
    def progress(self, progress: Progress) -> None:
        """How far the current video is."""

    @abstractmethod
    def warn(self, message: str) -> None:
        """Something that a library says."""

    @abstractmethod
    def error(self, message: str, traceback: str = "") -> None:
        """Why the whole run ends. traceback: of an internal error."""

    @abstractmethod
    def summary(self, summary: RunSummary) -> None:
        """The run is over."""

    @abstractmethod
    def close(self) -> None:
        """The terminal is free for others."""
