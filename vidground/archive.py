"""A run over many videos: each is skipped, done or failed on its own, and all are counted.

What is to be done comes from `vidground.outputs`, the work itself is any function from a job to a
result. Knows neither models nor terminals: what happens is told to a callback and returned.

>>> jobs = plan_outputs(find_videos(["archive"], recursive=True).videos, ["srt", "json"])
>>> captioner = DenseCaptioner()
>>> def work(job, on_progress):
...     return captioner.caption(job.path, on_progress=on_progress)
>>> run_archive(jobs, work).failed
0
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vidground.errors import CheckpointError, VidgroundError
from vidground.formats import Result, save
from vidground.outputs import Job, still_to_write
from vidground.progress import OnProgress
from vidground.types import Captions

SUMMARY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Started:
    """A video's turn has come: the number-th of total."""

    path: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one input.

    path: the video; for an input that stands for no file, what was asked for. outputs: the files
    written, or those already there if it was skipped. events: captions or moments in the result;
    None without a result. error: why it failed, else None. elapsed_s: its share of the run.
    """

    path: str
    status: Literal["done", "skipped", "failed"]
    outputs: tuple[str, ...] = ()
    events: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What became of all inputs, in the order of the run.

    unfinished: how many have no report. interrupted: whether Ctrl-C ended the run.
    """

    reports: tuple[FileReport, ...]
    unfinished: int
    interrupted: bool

    @property
    def done(self) -> int:
        """Videos with a new result, empty ones included."""
        return self._count("done")

    @property
    def empty(self) -> int:
        """Videos whose new result holds no event: a result, not a failure."""
        return sum(report.events == 0 for report in self.reports if report.status == "done")

    @property
    def skipped(self) -> int:
        """Videos whose results were all there."""
        return self._count("skipped")

    @property
    def failed(self) -> int:
        """Inputs that gave no result, or one that could not be written."""
        return self._count("failed")

    @property
    def counts(self) -> dict[str, int]:
        """All counts by name."""
        names = ("done", "empty", "skipped", "failed", "unfinished")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """The summary in JSON's terms."""
        files = [asdict(report) for report in self.reports]
        head = {"schema_version": SUMMARY_VERSION, **self.counts, "interrupted": self.interrupted}
        return head | {"files": files}

    def _count(self, status: str) -> int:
        return sum(report.status == status for report in self.reports)


Work = Callable[[Job, OnProgress], Result]
Write = Callable[[Result, str, Path | None], None]
OnEvent = Callable[[Started | FileReport], None]


def write_file(result: Result, name: str, path: Path | None) -> None:
    """Write a result in the format `name`; a job without files needs a writer of its own."""
    if path is None:
        raise ValueError(f"the job has no file for {name}; give run_archive a `write` function")
    save(result, path, format=name)


def _ignore(_: object) -> None:
    pass


def run_archive(
    jobs: Sequence[Job],
    work: Work,
    *,
    missing: Iterable[tuple[str, VidgroundError]] = (),
    overwrite: bool = False,
    write: Write = write_file,
    on_event: OnEvent = _ignore,
    on_progress: OnProgress = _ignore,
) -> RunSummary:
    """Do all jobs, one after the other, and return what became of each.

    Outputs that exist are left alone and only the others are written. A job whose video or
    outputs make trouble (VidgroundError, OSError, no memory) is reported as failed and the run
    goes on; Ctrl-C ends it, with a summary of what was done until then.

    Args:
        work: from a job with the outputs that are still to be written to the result.
        missing: inputs that could not be found (`find_videos`); they are reported as failed.
        overwrite: do again what exists.
        write: puts a result in a format to its file.
        on_event: told when a job begins (`Started`) and what became of it (`FileReport`).
        on_progress: handed to `work`.

    Raises:
        CheckpointError: the model is at fault, so no further video would fare better.
        BrokenPipeError: nobody reads the results any more.
    """
    reports: list[FileReport] = []

    def tell(report: FileReport) -> None:
        reports.append(report)
        on_event(report)

    given_up = list(missing)
    interrupted = False
    try:
        for name, error in given_up:
            tell(FileReport(name, "failed", error=str(error)))
        for number, job in enumerate(jobs, 1):
            on_event(Started(str(job.path), number, len(jobs)))
            tell(_run_job(job, work, overwrite=overwrite, write=write, on_progress=on_progress))
    except KeyboardInterrupt:
        interrupted = True
    unfinished = len(given_up) + len(jobs) - len(reports)
    return RunSummary(tuple(reports), unfinished, interrupted)


def any_work(jobs: Iterable[Job], *, overwrite: bool = False) -> bool:
    """Whether any job would call `work`: if none does, no model needs to be loaded."""
    for job in jobs:
        try:
            if still_to_write(job, overwrite=overwrite).outputs:
                return True
        except VidgroundError:
            continue  # `run_archive` reports it
    return False


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, the GPU or torch on the CPU had no memory left."""
    torch = sys.modules.get("torch")  # a run without torch has no such error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError)


def _run_job(
    job: Job, work: Work, *, overwrite: bool, write: Write, on_progress: OnProgress
) -> FileReport:
    path = str(job.path)
    begin = time.monotonic()
    written: list[str] = []
    try:
        left = still_to_write(job, overwrite=overwrite)
        if not left.outputs:
            return FileReport(path, "skipped", tuple(map(str, job.outputs.values())))
        result = work(left, on_progress)
        for name, output in left.outputs.items():
            write(result, name, output)
            if output is not None:
                written.append(str(output))
    except (CheckpointError, BrokenPipeError):
        raise
    except (VidgroundError, OSError, MemoryError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        elapsed_s = time.monotonic() - begin
        return FileReport(path, "failed", tuple(written), error=reason, elapsed_s=elapsed_s)
    return FileReport(
        path,
        "done",
        tuple(written),
        events=len(result.events),
        warnings=_warnings(result),
        elapsed_s=time.monotonic() - begin,
    )


def _reason(error: Exception) -> str | None:
    """Why a video failed, in one line; None if the error says nothing about that video."""
    if isinstance(error, VidgroundError | OSError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; use a smaller batch, a shorter window or fewer frames per second"
    return None


def _warnings(result: Result) -> tuple[str, ...]:
    """What a reader should know about the result, each thing once."""
    answers = (result,) if isinstance(result, Captions) else result.results
    return tuple(dict.fromkeys(warning for answer in answers for warning in answer.warnings))
