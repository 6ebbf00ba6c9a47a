"""A run over many videos: each is skipped, done or failed on its own, and all are counted.

What is to be done comes from `vidground.archive.outputs` and `vidground.archive.ledger`, the work
itself is any function from a job to a result. Knows neither models nor terminals: what happens is
told to a callback and returned.

>>> jobs = plan_outputs(find_videos(["archive"], recursive=True).videos, ["srt", "json"])
>>> captioner = DenseCaptioner()
>>> def work(job, on_progress):
...     return captioner.caption(job.path, on_progress=on_progress)
>>> run_archive(jobs, work).failed
0
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from vidground.archive.events import FileReport, RunSummary, Started, Waiting, report_failure
from vidground.archive.job_steps import Begun, Filing, Judge, Render, Write, write_file
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job
from vidground.archive.workers import Work, Workers, as_workers
from vidground.errors import InputError, VidgroundError
from vidground.progress import OnProgress
from vidground.results.formats import render as render_result

_LOOK_AGAIN_S = 0.5  # how often a run looks whether another one has done what it waits for

OnEvent = Callable[[Started | Waiting | FileReport], None]


def _ignore(_: object) -> None:
    pass


def run_archive(
    jobs: Sequence[Job],
    work: Work | Workers,
    *,
    missing: Iterable[tuple[str, VidgroundError]] = (),
    ledger: Ledger | None = None,
    judge: Judge | None = None,
    max_failures: int | None = None,
    wait: bool = True,
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
        work: from a job with the outputs that are to be written to the result, called for one
            after the other; or `Workers`, who may do several at a time.
        missing: inputs that could not be found (`find_videos`); they are reported as failed.
        ledger: what is done already; None for one that goes by names of files, and by records
            where the jobs have a folder for them.
        judge: says why a result is not good enough; it is written, but counts as failed.
        max_failures: the run ends once so many inputs have failed.
        wait: until other runs are through with their jobs; if not, these stay unfinished.
        render: a result as text in a format. write: puts such a text to its file.
        on_event: told when a job begins (`Started`), when only jobs of other runs are left
            (`Waiting`) and what became of a job (`FileReport`).
        on_progress: handed to `work`.

    Raises:
        InputError: a job has no file to write to, and there is no `write` of one's own.
        CheckpointError: the model is at fault, so no further video would fare better.
        BrokenPipeError: nobody reads the results any more.
    """
    if write is write_file and any(None in job.outputs.values() for job in jobs):
        raise InputError("a job has no file to write to; give run_archive a `write` function")
    workers = as_workers(work)
    filing = Filing(ledger or Ledger(), judge, render, write)
    run = _Run(workers, filing, on_event, on_progress, max_failures, wait)
    begin = time.monotonic()
    given_up = list(missing)
    interrupted = False
    try:
        run.go(given_up, jobs)
    except KeyboardInterrupt:
        interrupted = True
    unfinished = len(given_up) + len(jobs) - len(run.reports)
    stopped = run.is_enough and unfinished > 0 and not interrupted
    elapsed_s = time.monotonic() - begin
    return RunSummary(tuple(run.reports), unfinished, interrupted, stopped, elapsed_s)


@dataclass
class _Run:
    """One call of `run_archive`: its functions, the jobs that are begun, and the reports so far."""

    workers: Workers
    filing: Filing
    on_event: OnEvent
    on_progress: OnProgress
    max_failures: int | None
    wait: bool
    begun: dict[int, Begun] = field(default_factory=dict)  # by the id of what workers were given
    reports: list[FileReport] = field(default_factory=list)
    failures: int = 0

    @property
    def is_enough(self) -> bool:
        return self.max_failures is not None and self.failures >= self.max_failures

    def tell(self, report: FileReport) -> None:
        self.reports.append(report)
        self.failures += report.status == "failed"
        self.on_event(report)

    def go(self, given_up: Iterable[tuple[str, VidgroundError]], jobs: Sequence[Job]) -> None:
        """Do the jobs; those that other runs do at the time come last."""
        for name, error in given_up:
            if not self.is_enough:
                self.tell(report_failure(name, error))
        others = [] if self.is_enough else self._go(self._announced(jobs))
        for job in others:
            self.on_event(Waiting(str(job.path)))
        while others and self.wait and not self.is_enough:
            left = self._go(others)
            if len(left) == len(others):
                time.sleep(_LOOK_AGAIN_S)
            others = left

    def _announced(self, jobs: Sequence[Job]) -> Iterator[Job]:
        for number, job in enumerate(jobs, 1):
            self.on_event(Started(str(job.path), number, len(jobs)))
            yield job

    def _go(self, jobs: Iterable[Job]) -> list[Job]:
        """Do all jobs but those that other runs do now, which are returned."""
        others: list[Job] = []
        to_work_on = self._to_work_on(jobs, others)
        try:
            with closing(self.workers.results(to_work_on, self.on_progress)) as results:
                for finished in results:
                    begun = self.begun.pop(id(finished.job))
                    self.tell(self.filing.finish(begun, finished))
                    if self.is_enough:
                        break
        finally:
            while self.begun:
                self.begun.popitem()[1].claim.close()
        return others

    def _to_work_on(self, jobs: Iterable[Job], others: list[Job]) -> Iterator[Job]:
        """Begin jobs and give those that need the model; report on the rest."""
        for job in jobs:
            begun = self.filing.begin(job)
            if isinstance(begun, Begun):
                self.begun[id(begun.left)] = begun
                yield begun.left
            elif begun is None:
                others.append(job)
            else:
                self.tell(begun)
            if self.is_enough:
                return
