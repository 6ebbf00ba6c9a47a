"""A run over many videos: each is skipped, done or failed on its own, and all are counted.

What is to be done comes from `vidground.archive.outputs` and `vidground.archive.ledger`, the work
itself is any function from a job to a result. Knows neither models nor terminals: what happens is
told to a callback and returned.

>>> jobs = plan_outputs(find_videos(["archive"], recursive=True).videos, ["srt", "json"])
>>> captioner = DenseCaptioner()
>>> def worker(jobs, on_progress):
...     return captioner.engine.work_on(
...         jobs,
...         lambda backend, job: captioner.caption(
...             job.path, on_progress=on_progress, backend=backend
...         ),
...     )
>>> run_archive(jobs, worker).failed
0
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidground.archive.events import FileReport, RunSummary, Started, Waiting, report_failure
from vidground.archive.job_steps import ClaimedJob, JobRecorder, Judge, Render, Write, write_file
from vidground.archive.ledger import Ledger
from vidground.archive.manifest import Manifest, RecordError
from vidground.archive.outputs import Job
from vidground.archive.workers import Worker
from vidground.errors import FormatError, InputError, VidgroundError
from vidground.progress import OnProgress
from vidground.results.formats import render as render_result

_RECHECK_S = 0.5  # how often a run checks whether another one has finished the jobs it waits for

OnEvent = Callable[[Started | Waiting | FileReport], None]


def _ignore(_: object) -> None:
    pass


def run_archive(
    jobs: Sequence[Job],
    worker: Worker,
    *,
    missing: Iterable[tuple[str, VidgroundError]] = (),
    ledger: Ledger | None = None,
    judge: Judge | None = None,
    max_failures: int | None = None,
    wait: bool = True,
    stored: bool = False,
    render: Render = render_result,
    write: Write = write_file,
    on_event: OnEvent = _ignore,
    on_progress: OnProgress = _ignore,
) -> RunSummary:
    """Do all jobs and return what became of each.

    A job that raises an exception is reported as failed and the run goes on, also if that is a
    mistake of the program, which is reported as an internal error and never recorded; Ctrl-C ends
    the run, with a summary of what was done until then.
    Several runs may work on the same jobs at once, if they have a folder to record them in: each
    job is done by one of them, and a job of another run is waited for at the end.

    Args:
        jobs: one per video; see `plan_outputs`.
        worker: makes the results. The jobs that it is given hold only the outputs that still have
            to be written.
        missing: inputs that could not be found (`find_videos`); they are reported as failed.
        ledger: what is done already; None for one that goes by names of files, and by records
            where the jobs have a folder for them.
        judge: says why a result is not good enough; it is written, but counts as failed.
        max_failures: number of failed inputs after which the run ends.
        wait: until other runs are through with their jobs; if not, these stay unfinished.
        stored: whether reports on skipped jobs hold the stored result, too.
        render: a result as text in a format. write: puts such a text to its file.
        on_event: told when a job begins (`Started`), when only jobs of other runs are left
            (`Waiting`) and what became of a job (`FileReport`).
        on_progress: passed to `worker`.

    Raises:
        InputError: a job has no file to write to, and there is no `write` of one's own.
        CheckpointError: the model is at fault, so no further video would fare better.
        BrokenPipeError: nobody reads the results any more.
    """
    if write is write_file and any(None in job.outputs.values() for job in jobs):
        raise InputError("a job has no file to write to; give run_archive a `write` function")
    recorder = JobRecorder(ledger or Ledger(), judge, render, write, stored)
    run = _Run(worker, recorder, on_event, on_progress, max_failures)
    begin = time.monotonic()
    whole, damaged = _with_whole_records(jobs)
    not_found = [*missing, *damaged]
    interrupted = False
    try:
        run.report_missing(not_found)
        others = [] if run.is_enough else run.do(run.announced(whole))
        for job in others:
            on_event(Waiting(str(job.path)))
        while others and wait and not run.is_enough:
            left = run.do(others)
            if len(left) == len(others):
                time.sleep(_RECHECK_S)
            others = left
    except KeyboardInterrupt:
        interrupted = True
    unfinished = len(not_found) + len(jobs) - len(run.reports)
    stopped = run.is_enough and unfinished > 0 and not interrupted
    elapsed_s = time.monotonic() - begin
    return RunSummary(tuple(run.reports), unfinished, interrupted, stopped, elapsed_s)


def _with_whole_records(
    jobs: Sequence[Job],
) -> tuple[list[Job], list[tuple[str, VidgroundError]]]:
    """Return the jobs whose folder has a record that can be read, and the other records.

    A damaged record is an error of its own, reported once and not for every video.
    """
    damaged: dict[Path, RecordError] = {}
    for folder in dict.fromkeys(job.folder for job in jobs if job.folder is not None):
        try:
            Manifest(folder).require_whole()
        except RecordError as error:
            damaged[folder] = error
        except FormatError:  # busy, unreadable or newer: each job reports it
            continue
    whole = [job for job in jobs if job.folder not in damaged]
    found: list[tuple[str, VidgroundError]] = []
    for folder, fault in damaged.items():
        count = sum(job.folder == folder for job in jobs)
        videos = "1 video is" if count == 1 else f"{count} videos are"
        message = f"{fault}; until then {videos} left out"
        found.append((str(Manifest(folder).path), RecordError(message)))
    return whole, found


@dataclass
class _Run:
    """The state of one call of `run_archive`.

    Attributes:
        claimed: the jobs that the worker has, by the `id` of the job object it was given.
        reports: in the order in which inputs were completed.
        failures: how many of the reports are failures.
    """

    worker: Worker
    recorder: JobRecorder
    on_event: OnEvent
    on_progress: OnProgress
    max_failures: int | None
    claimed: dict[int, ClaimedJob] = field(default_factory=dict)
    reports: list[FileReport] = field(default_factory=list)
    failures: int = 0

    @property
    def is_enough(self) -> bool:
        """Whether the number of failures that ends the run is reached."""
        return self.max_failures is not None and self.failures >= self.max_failures

    def report_missing(self, missing: Iterable[tuple[str, VidgroundError]]) -> None:
        for name, error in missing:
            if not self.is_enough:
                self._report(report_failure(name, error))

    def announced(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Yield the jobs, each with an event that its turn has come."""
        for number, job in enumerate(jobs, 1):
            self.on_event(Started(str(job.path), number, len(jobs)))
            yield job

    def do(self, jobs: Iterable[Job]) -> list[Job]:
        """Do all jobs except those that another run is working on; return the latter."""
        others: list[Job] = []
        try:
            with closing(self.worker(self._claim(jobs, others), self.on_progress)) as outcomes:
                for outcome in outcomes:
                    claimed = self.claimed.pop(id(outcome.item))
                    self._report(self.recorder.finish(claimed, outcome))
                    if self.is_enough:
                        break
        finally:
            while self.claimed:
                self.claimed.popitem()[1].claim.close()
        return others

    def _claim(self, jobs: Iterable[Job], others: list[Job]) -> Iterator[Job]:
        """Claim jobs and yield those that need the model; complete or report the rest."""
        for job in jobs:
            claimed = self.recorder.begin(job)
            if isinstance(claimed, ClaimedJob):
                self.claimed[id(claimed.left)] = claimed
                yield claimed.left
            elif claimed is None:
                others.append(job)
            else:
                self._report(claimed)
            if self.is_enough:
                return

    def _report(self, report: FileReport) -> None:
        self.reports.append(replace(report, result=None))  # a curve per file would fill the memory
        self.failures += report.status == "failed"
        self.on_event(report)
