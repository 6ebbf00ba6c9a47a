"""The interface of reporters of a run over many videos, and safe display of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.progress import Progress

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading


def shown(text: str) -> str:
    """Return text as one line that is safe for a terminal: unprintable characters are escaped.

    Line breaks become `\\n`, bytes that are not UTF-8 `\\xff`, marks that reorder text `\\u202e`.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


class Reporter(ABC):
    """Reports a run; the target of `run_archive`'s callbacks."""

    @abstractmethod
    def watching(self, folders: Sequence[str]) -> None:
        """Report that these folders are being watched."""

    @abstractmethod
    def loading(self, loading: Loading) -> None:
        """Report that a model is being loaded."""

    @abstractmethod
    def info(self, message: str) -> None:
        """Report a message that vidground logs for information, such as a download."""

    @abstractmethod
    def expect(self, weights: Mapping[str, float], *, total: int | None = None) -> None:
        """Set the sizes of the videos to process, by path.

        Args:
            weights: size of each video.
            total: number of inputs so far, if it was unknown before.
        """

    @abstractmethod
    def plan(self, path: str, action: str, reason: str, outputs: Sequence[str]) -> None:
        """Report what would be done about an input (`Plan.action`), and why."""

    @abstractmethod
    def event(self, event: Started | Waiting | FileReport) -> None:
        """Report that work on a video starts, is done by another run, or has ended."""

    @abstractmethod
    def progress(self, progress: Progress) -> None:
        """Report the progress on a video."""

    @abstractmethod
    def warn(self, message: str) -> None:
        """Report a warning of a library."""

    @abstractmethod
    def error(self, message: str, traceback: str = "") -> None:
        """Report the error that ends the run.

        Args:
            message: of the error.
            traceback: of an internal error.
        """

    @abstractmethod
    def summary(self, summary: RunSummary) -> None:
        """Report the end of the run."""

    @abstractmethod
    def close(self) -> None:
        """Release the terminal."""
