"""Events of a run over many videos, and its summary.

Plain data. Knows neither how the work is done nor where it is shown.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from vidground.faults import FailureKind, as_internal, kind_of, told
from vidground.results.documents import Result, video_of
from vidground.results.types import Captions

SUMMARY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Started:
    """Work on a video starts.

    Attributes:
        path: of the video.
        number: of the video in the run, from 1.
        total: number of videos.
    """

    path: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Everything else is done, and another run is still working on this video.

    Attributes:
        path: of the video.
    """

    path: str


@dataclass(frozen=True, slots=True)
class FileReport:
    """The outcome of one input.

    Attributes:
        path: of the video; the input itself if it names no file.
        status: "done", "skipped" or "failed".
        outputs: files that were written, or existed already if it was skipped.
        events: number of captions or moments in the result; None without a new result.
        warnings: of the result.
        error: why it failed; None if it did not.
        elapsed_s: its share of the run's time.
        reason: why it was done or skipped.
        video_s: duration of video that the model processed; None for nothing.
        failure: kind of failure; None if it did not fail.
        traceback: of an internal error.
        result: of a video that is done, while its event is handled; None in a summary.
    """

    path: str
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[str, ...] = ()
    events: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    elapsed_s: float = 0.0
    reason: str = ""
    video_s: float | None = None
    failure: FailureKind | None = None
    traceback: str | None = None
    result: Result | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, without the result."""
        values = asdict(replace(self, result=None))
        del values["result"]
        return values


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The outcome of all inputs, in the order of the run.

    Attributes:
        reports: one per completed input.
        unfinished: number of inputs without a report.
        interrupted: whether a signal ended the run.
        stopped: whether the run ended because too many inputs had failed.
        elapsed_s: duration of the run.
    """

    reports: tuple[FileReport, ...]
    unfinished: int
    interrupted: bool
    stopped: bool = False
    elapsed_s: float = 0.0

    @property
    def done(self) -> int:
        """Number of videos with a new result, including empty ones."""
        return self._count("done")

    @property
    def empty(self) -> int:
        """Number of videos whose new result has no event, which is not a failure."""
        return sum(report.events == 0 for report in self.reports if report.status == "done")

    @property
    def skipped(self) -> int:
        """Number of videos whose results all existed."""
        return self._count("skipped")

    @property
    def failed(self) -> int:
        """Number of inputs without a result, or whose result was not written or not good enough."""
        return self._count("failed")

    @property
    def internal_errors(self) -> int:
        """Number of inputs that failed because of a bug."""
        return sum(report.failure == "internal" for report in self.reports)

    @property
    def failures(self) -> list[str]:
        """The inputs that failed."""
        return [report.path for report in self.reports if report.status == "failed"]

    @property
    def counts(self) -> dict[str, int]:
        """All counts by name."""
        names = ("done", "empty", "skipped", "failed", "unfinished")
        return {name: getattr(self, name) for name in names}

    @property
    def speed(self) -> Mapping[str, float]:
        """Speed of the model over the time of its videos; empty if it did nothing.

        `video_s`: seconds of video; `video_s_per_s`: the same per second; `files_per_minute`.
        """
        worked = [r for r in self.reports if r.video_s is not None]
        elapsed_s = sum(report.elapsed_s for report in worked)
        if not worked or elapsed_s <= 0:
            return {}
        video_s = sum(report.video_s or 0.0 for report in worked)
        per_minute = 60 * len(worked) / elapsed_s
        return {
            "video_s": video_s,
            "video_s_per_s": video_s / elapsed_s,
            "files_per_minute": per_minute,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {
            "schema_version": SUMMARY_VERSION,
            **self.counts,
            "internal_errors": self.internal_errors,
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "elapsed_s": self.elapsed_s,
            **self.speed,
            "failed_paths": self.failures,
            "files": [report.to_dict() for report in self.reports],
        }

    def _count(self, status: str) -> int:
        return sum(report.status == status for report in self.reports)


def report_on(
    path: str, result: Result, outputs: tuple[str, ...], *, elapsed_s: float, reason: str, new: bool
) -> FileReport:
    """Return the report on a video whose result was written.

    Args:
        path: of the video.
        result: that was written.
        outputs: files that were written.
        elapsed_s: share of the run's time.
        reason: why it was done.
        new: whether the model has made the result now.
    """
    answers = (result,) if isinstance(result, Captions) else result.results
    return FileReport(
        path,
        "done",
        outputs,
        events=len(result.events),
        warnings=tuple(dict.fromkeys(w for answer in answers for w in answer.warnings)),
        elapsed_s=elapsed_s,
        reason=reason,
        video_s=video_of(result).duration_s if new else None,
        result=result,
    )


def report_failure(
    path: str | os.PathLike[str],
    error: Exception,
    outputs: Sequence[str] = (),
    *,
    elapsed_s: float = 0.0,
) -> FileReport:
    """Return the report on an input that failed with an exception.

    Args:
        path: of the video.
        error: the exception.
        outputs: files that were written before.
        elapsed_s: share of the run's time.
    """
    failure = kind_of(error)
    if failure == "internal":
        error = as_internal(error, path)
    return FileReport(
        os.fspath(path),
        "failed",
        tuple(outputs),
        error=told(error),
        elapsed_s=elapsed_s,
        failure=failure,
        traceback=getattr(error, "traceback", None) or None,
    )
