"""The steps of one job: decide what to do, and record, render and write its result.

The model's work in between is done by a worker (`vidground.archive.workers`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vidground.archive.events import FileReport, report_failure, report_on
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job
from vidground.archive.planning import Plan
from vidground.errors import CheckpointError, FormatError, VideoError, VidgroundError
from vidground.faults import kind_of
from vidground.outcomes import Outcome
from vidground.results.documents import Result
from vidground.storage.atomic import write_atomically
from vidground.storage.files import FileState, file_state, printable

Render = Callable[[Result, str], str]
Write = Callable[[str, Path | None], None]
Judge = Callable[[Result], str | None]


def write_file(text: str, path: Path | None) -> None:
    """Write a rendered result to its file; jobs without files need another function."""
    assert path is not None, "run_archive refuses such jobs"
    write_atomically(path, text, parents=True)


@dataclass(frozen=True)
class ClaimedJob:
    """A job in progress, which other runs do not take until `claim` is closed.

    Attributes:
        job: the whole job.
        left: the job with only the outputs to write.
        plan: why they are written.
        state: of the video when the job began.
        elapsed_s: time taken so far.
        claim: releases the job.
    """

    job: Job
    left: Job
    plan: Plan
    state: FileState | None
    elapsed_s: float
    claim: ExitStack


@dataclass(frozen=True)
class JobRecorder:
    """Begins and finishes jobs; see `run_archive` for the attributes."""

    ledger: Ledger
    judge: Judge | None
    render: Render
    write: Write
    stored: bool = False

    def begin(self, job: Job) -> ClaimedJob | FileReport | None:
        """Decide what to do about a job, and do it unless it needs the model.

        Returns:
            The claimed job if it needs the model, its report if it does not, or None if another run
            is working on it.
        """
        begin = time.monotonic()
        written: list[str] = []
        try:
            plan = self.ledger.plan(job)
            if plan.action in ("skip", "failed"):
                return self._leave(job, plan)
            with ExitStack() as claim:
                if not claim.enter_context(self.ledger.claim(job)):
                    return None
                plan = self.ledger.plan(job)  # another run may have done it a moment ago
                if plan.action in ("skip", "failed"):
                    return self._leave(job, plan)
                left = job.only(plan.formats)
                stored = self.ledger.stored(job) if plan.action == "render" else None
                if stored is not None:
                    return self._render(job, left, plan, stored, begin, written)
                state = file_state(job.path)
                return ClaimedJob(job, left, plan, state, time.monotonic() - begin, claim.pop_all())
        except Exception as error:  # noqa: BLE001 - reported, or raised again
            return _failed(job, error, written, time.monotonic() - begin)

    def finish(self, claimed: ClaimedJob, outcome: Outcome[Job, Result]) -> FileReport:
        """Record and write the outcome of a job, and release it."""
        begin = time.monotonic() - outcome.elapsed_s - claimed.elapsed_s
        started_at, state = time.time() - outcome.elapsed_s, claimed.state
        left, plan, written = claimed.left, claimed.plan, list[str]()
        with claimed.claim:
            try:
                result = self._result(outcome, state, started_at)
                texts = self._texts(left, result)
                self.ledger.intend(left, texts, result=result, state=state, started_at=started_at)
                self._write(left, texts, written)
                report = self._report(claimed.job, plan, result, written, begin, new=True)
                return self._judged(report, result)
            except Exception as error:  # noqa: BLE001 - reported, or raised again
                return _failed(claimed.job, error, written, time.monotonic() - begin)

    def _render(
        self, job: Job, left: Job, plan: Plan, stored: Result, begin: float, written: list[str]
    ) -> FileReport:
        texts = self._texts(left, stored)
        self.ledger.intend_outputs(left, texts)
        self._write(left, texts, written)
        return self._judged(self._report(job, plan, stored, written, begin, new=False), stored)

    def _leave(self, job: Job, plan: Plan) -> FileReport:
        """Return the report on a job without anything to do."""
        if plan.action == "failed":
            return FileReport(str(job.path), "failed", error=plan.reason, failure="input")
        self.ledger.settle(job)
        outputs = tuple(map(str, job.outputs.values()))
        report = FileReport(str(job.path), "skipped", outputs, reason=plan.reason)
        if self.judge is None and not self.stored:
            return report
        try:
            result = self.ledger.stored(job)
        except FormatError:
            if self.judge is not None:
                raise
            return report  # its outputs are correct
        return report if result is None else self._judged(replace(report, result=result), result)

    def _result(
        self, outcome: Outcome[Job, Result], state: FileState | None, started_at: float
    ) -> Result:
        """Return the result of a video, after checking that the file has not changed."""
        job, result = outcome.item, outcome.result
        if isinstance(result, VidgroundError) and kind_of(result) == "input":
            _require_unchanged(job, state, result)
            self._record_failure(job, result, state, started_at)
        if isinstance(result, Exception):
            raise result
        _require_unchanged(job, state)
        return result

    def _record_failure(
        self, job: Job, error: VidgroundError, state: FileState | None, started_at: float
    ) -> None:
        try:
            self.ledger.record_failure(job, str(error), state=state, started_at=started_at)
        except FormatError as second:
            raise VideoError(f"{error}; this cannot be recorded either: {second}") from error

    def _write(self, job: Job, texts: Mapping[str, str], written: list[str]) -> None:
        """Write the files of a job, and add each to `written` even if a later one fails."""
        for format, text in texts.items():
            path = job.outputs[format]
            self.write(text, path)
            if path is not None:
                written.append(str(path))

    def _report(
        self,
        job: Job,
        plan: Plan,
        result: Result,
        written: Sequence[str],
        begin: float,
        *,
        new: bool,
    ) -> FileReport:
        elapsed_s = time.monotonic() - begin
        path, outputs = str(job.path), tuple(written)
        report = report_on(path, result, outputs, elapsed_s=elapsed_s, reason=plan.reason, new=new)
        notes = (f"{job.outputs[f]} is left alone: {_NOT_OURS}" for f in plan.kept)
        return replace(report, warnings=(*report.warnings, *notes))

    def _texts(self, job: Job, result: Result) -> Mapping[str, str]:
        """Render all formats before the first file is written."""
        return {format: self.render(result, format) for format in job.outputs}

    def _judged(self, report: FileReport, result: Result) -> FileReport:
        objection = None if self.judge is None else self.judge(result)
        if objection is None:
            return report
        return replace(report, status="failed", error=objection, failure="quality")


_NOT_OURS = "vidground did not write it, or it was changed since (--overwrite replaces it)"


def _require_unchanged(
    job: Job, before: FileState | None, cause: VidgroundError | None = None
) -> None:
    """Check that a video has not changed.

    Raises:
        VideoError: it was changed, replaced or removed since `before`.
    """
    after = file_state(job.path)
    if after == before:
        return
    what = "vanished" if after is None else "was changed"
    raise VideoError(
        f"{printable(job.path)}: {what} while it was read; run again once it is complete"
    ) from cause


def _failed(job: Job, error: Exception, written: Sequence[str], elapsed_s: float) -> FileReport:
    """Return the report on a failed job; raise errors that every other job would meet, too."""
    if isinstance(error, CheckpointError | BrokenPipeError):
        raise error
    return report_failure(job.path, error, written, elapsed_s=elapsed_s)
