"""A run over many videos: each is skipped, done or failed on its own, and all are counted.

What is to be done comes from `vidground.outputs` and `vidground.ledger`, the work itself is any
function from a job to a result. Knows neither models nor terminals: what happens is told to a
callback and returned.

>>> jobs = plan_outputs(find_videos(["archive"], recursive=True).videos, ["srt", "json"])
>>> captioner = DenseCaptioner()
>>> def work(job, on_progress):
...     return captioner.caption(job.path, on_progress=on_progress)
>>> run_archive(jobs, work).failed
0
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidground.atomic import make_folder, write_atomically
from vidground.documents import Result
from vidground.errors import CheckpointError, FormatError, InputError, VideoError, VidgroundError
from vidground.files import FileState, file_state, printable
from vidground.formats import render as render_result
from vidground.ledger import Ledger
from vidground.outcomes import FileReport, RunSummary, Started, Waiting, report_on
from vidground.outputs import Job
from vidground.planning import Plan
from vidground.progress import OnProgress

_LOOK_AGAIN_S = 0.5  # how often a run looks whether another one has done what it waits for

Work = Callable[[Job, OnProgress], Result]
Render = Callable[[Result, str], str]
Write = Callable[[str, Path | None], None]
Judge = Callable[[Result], str | None]
OnEvent = Callable[[Started | Waiting | FileReport], None]


def write_file(text: str, path: Path | None) -> None:
    """Write a rendered result to its file; a job without files needs a writer of its own."""
    if path is None:
        raise ValueError("the job has no file; give run_archive a `write` function")
    make_folder(path.parent)
    write_atomically(path, text)


def _ignore(_: object) -> None:
    pass


def run_archive(
    jobs: Sequence[Job],
    work: Work,
    *,
    missing: Iterable[tuple[str, VidgroundError]] = (),
    ledger: Ledger | None = None,
    judge: Judge | None = None,
    max_failures: int | None = None,
    render: Render = render_result,
    write: Write = write_file,
    on_event: OnEvent = _ignore,
    on_progress: OnProgress = _ignore,
) -> RunSummary:
    """Do all jobs, one after the other, and return what became of each.

    A job whose video or outputs make trouble (VidgroundError, OSError, no memory) is reported as
    failed and the run goes on; Ctrl-C ends it, with a summary of what was done until then.
    Several runs may work on the same jobs at once, if they have a folder to record them in: each
    job is done by one of them, and a job of another run is waited for at the end.

    Args:
        work: from a job with the outputs that are to be written to the result.
        missing: inputs that could not be found (`find_videos`); they are reported as failed.
        ledger: what is done already; None for one that goes by names of files, and by records
            where the jobs have a folder for them.
        judge: says why a result is not good enough; it is written, but counts as failed.
        max_failures: the run ends once so many inputs have failed.
        render: a result as text in a format. write: puts such a text to its file.
        on_event: told when a job begins (`Started`), when only jobs of other runs are left
            (`Waiting`) and what became of a job (`FileReport`).
        on_progress: handed to `work`.

    Raises:
        CheckpointError: the model is at fault, so no further video would fare better.
        BrokenPipeError: nobody reads the results any more.
    """
    run = _Run(work, ledger or Ledger(), judge, render, write, on_event, on_progress)
    begin = time.monotonic()
    given_up = list(missing)
    interrupted = stopped = False
    try:
        for report in run.reports_on(given_up, jobs):
            run.tell(report)
            if max_failures is not None and run.failures >= max_failures:
                stopped = len(run.reports) < len(given_up) + len(jobs)
                break
    except KeyboardInterrupt:
        interrupted = True
    unfinished = len(given_up) + len(jobs) - len(run.reports)
    elapsed_s = time.monotonic() - begin
    return RunSummary(tuple(run.reports), unfinished, interrupted, stopped, elapsed_s)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch on the CPU had no memory left."""
    torch = sys.modules.get("torch")  # a run without torch has no such error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError)


@dataclass
class _Run:
    """One call of `run_archive`: its functions, and the reports so far."""

    work: Work
    ledger: Ledger
    judge: Judge | None
    render: Render
    write: Write
    on_event: OnEvent
    on_progress: OnProgress
    reports: list[FileReport] = field(default_factory=list)
    failures: int = 0

    def tell(self, report: FileReport) -> None:
        self.reports.append(report)
        self.failures += report.status == "failed"
        self.on_event(report)

    def reports_on(
        self, given_up: Iterable[tuple[str, VidgroundError]], jobs: Sequence[Job]
    ) -> Iterable[FileReport]:
        """Do the jobs; those that other runs do at the time come last."""
        for name, error in given_up:
            yield FileReport(name, "failed", error=str(error))
        others: deque[Job] = deque()
        for number, job in enumerate(jobs, 1):
            self.on_event(Started(str(job.path), number, len(jobs)))
            report = self.report_on(job)
            if report is None:
                others.append(job)
            else:
                yield report
        for job in others:
            self.on_event(Waiting(str(job.path)))
        while others:
            report = self.report_on(others[0])
            if report is None:
                others.rotate(-1)
                time.sleep(_LOOK_AGAIN_S)
            else:
                others.popleft()
                yield report

    def report_on(self, job: Job) -> FileReport | None:
        """Do a job, unless there is nothing to do; None if another run does it now."""
        begin = time.monotonic()
        written: list[str] = []
        try:
            plan = self.ledger.plan(job)
            if plan.action in ("skip", "failed"):
                return self._leave(job, plan)
            with self.ledger.claim(job) as mine:
                if not mine:
                    return None
                plan = self.ledger.plan(job)  # another run may have done it a moment ago
                if plan.action in ("skip", "failed"):
                    return self._leave(job, plan)
                return self._do(job, plan, begin, written)
        except (CheckpointError, BrokenPipeError):
            raise
        except (VidgroundError, OSError, MemoryError, RuntimeError) as error:
            reason = _reason(error)
            if reason is None:
                raise
            elapsed_s = time.monotonic() - begin
            return FileReport(
                str(job.path), "failed", tuple(written), error=reason, elapsed_s=elapsed_s
            )

    def _leave(self, job: Job, plan: Plan) -> FileReport:
        """The report on a job that there is nothing to do about."""
        if plan.action == "failed":
            return FileReport(str(job.path), "failed", error=plan.reason)
        self.ledger.settle(job)
        outputs = tuple(map(str, job.outputs.values()))
        report = FileReport(str(job.path), "skipped", outputs, reason=plan.reason)
        stored = self.ledger.stored(job) if self.judge is not None else None
        return report if stored is None else self._judged(report, stored)

    def _do(self, job: Job, plan: Plan, begin: float, written: list[str]) -> FileReport:
        left = job.only(plan.formats)
        stored = self.ledger.stored(job) if plan.action == "render" else None
        if stored is None:
            started_at, state = time.time(), file_state(job.path)
            result = self._result(left, state, started_at)
            texts = self._texts(left, result)
            self.ledger.intend(left, texts, result=result, state=state, started_at=started_at)
        else:
            result = stored
            texts = self._texts(left, result)
            self.ledger.intend_outputs(left, texts)
        for format, text in texts.items():
            path = left.outputs[format]
            self.write(text, path)
            if path is not None:
                written.append(str(path))
        report = report_on(
            str(job.path),
            result,
            tuple(written),
            elapsed_s=time.monotonic() - begin,
            reason=plan.reason,
            new=stored is None,
        )
        notes = (f"{job.outputs[f]} is left alone: {_NOT_OURS}" for f in plan.kept)
        report = replace(report, warnings=(*report.warnings, *notes))
        return self._judged(report, result)

    def _result(self, job: Job, state: FileState | None, started_at: float) -> Result:
        """Make a result of a video that stays the same meanwhile."""
        try:
            result = self.work(job, self.on_progress)
        except (VideoError, InputError) as error:
            _require_unchanged(job, state, error)
            self._record_failure(job, error, state, started_at)
            raise
        _require_unchanged(job, state)
        return result

    def _record_failure(
        self, job: Job, error: VidgroundError, state: FileState | None, started_at: float
    ) -> None:
        try:
            self.ledger.record_failure(job, str(error), state=state, started_at=started_at)
        except FormatError as second:
            raise VideoError(f"{error}; this cannot be recorded either: {second}") from error

    def _texts(self, job: Job, result: Result) -> Mapping[str, str]:
        """All that is to be written, before the first file is."""
        return {format: self.render(result, format) for format in job.outputs}

    def _judged(self, report: FileReport, result: Result) -> FileReport:
        objection = None if self.judge is None else self.judge(result)
        return report if objection is None else replace(report, status="failed", error=objection)


_NOT_OURS = "vidground did not write it, or it was changed since (--overwrite replaces it)"


def _require_unchanged(
    job: Job, before: FileState | None, cause: VidgroundError | None = None
) -> None:
    """Raise VideoError if the video was changed, replaced or removed since `before`."""
    after = file_state(job.path)
    if after == before:
        return
    what = "vanished" if after is None else "was changed"
    raise VideoError(
        f"{printable(job.path)}: {what} while it was read; run again once it is complete"
    ) from cause


def _reason(error: Exception) -> str | None:
    """Why a video failed, in one line; None if the error says nothing about that video."""
    if isinstance(error, VidgroundError | OSError):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory; use a smaller batch, a shorter window or fewer frames per second"
    return None
