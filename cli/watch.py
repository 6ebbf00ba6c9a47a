"""`vidground watch`: caption videos as they arrive in a folder, until it is stopped.

Folders are scanned repeatedly. Notifications of the system (inotify) would need another library,
miss files that other machines write to a network folder, and not say when a file is complete.
"""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from vidground.archive.arrivals import SETTLE_S, Arrivals
from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.archive.inputs import FoundVideos, InputVideo, find_videos
from vidground.archive.outputs import Job, clash_text
from vidground.cli import caption
from vidground.cli.options.run_options import RunOptions, run_options
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.faults import reported_faults
from vidground.cli.reporting.make_reporter import Reporter, on_terminal, reporting
from vidground.cli.running.batch import check_outputs, plan_jobs, told_passed_over
from vidground.cli.running.finish import end_with, end_with_error
from vidground.cli.running.runner import Runner, set_environment
from vidground.errors import InputError, VidgroundError
from vidground.storage.files import change_time_ns, file_state

_PAUSE_S = 1.0  # between two scans; less if a file may be complete sooner
_SHORTEST_PAUSE_S = 0.05
_LOOKING = 0.05  # maximum share of the time that is spent scanning, however many files there are


@click.command()
@run_options(formats="srt", watched=True)
@caption.PROMPT_OPTION
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=SETTLE_S,
    show_default=True,
    help="A file counts as complete once it has not changed for this time.",
)
@click.option(
    "--idle-exit",
    "idle_exit_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Exit after this time without new or growing files or work; 0 exits as soon as everything "
    "present is done. By default only Ctrl-C or SIGTERM stop it.",
)
def watch(
    options: RunOptions, question: str | None, settle_s: float, idle_exit_s: float | None
) -> None:
    """Describe what happens in videos as they arrive in DIR, and when.

    Does the same as `vidground caption DIR`, with the same record, for the videos in DIR and for
    those that arrive later, each once it has stopped growing. A video that is replaced is done
    again. A failed video is reported and retried when it changes, or at the next start if the
    video itself was not the cause. Files that are still being downloaded (match.mp4.part,
    .match.mp4) are ignored. Ctrl-C and SIGTERM stop it and print the final counts of all videos.

    \b
    vidground watch incoming --recursive --out srt,json -o results
    vidground watch incoming --idle-exit 0 --summary run.json
    """
    asked, log = caption.asked_of(question), options.log
    set_environment(options)
    check_outputs(options, several=True)
    with usage_errors():
        # Refuses a folder outside of --relative-to before any work.
        found = _find(options, count_subfolders=True)
    with reporting(
        log.log_format, noun="event", total=0, quiet=log.quiet, answers=on_terminal()
    ) as reporter:
        if others := told_passed_over(found):
            reporter.warn(others)
        try:
            runner = Runner(
                options,
                lambda options: caption.load(options, question),
                asked=asked,
                reporter=reporter,
            )
            with reported_faults(), closing(runner):
                watching = _Watching(options, runner, reporter, settle_s=settle_s)
                summary = watching.until_end(idle_exit_s)
        except VidgroundError as error:
            end_with_error(error, reporter)
        end_with(summary, log, reporter)


class _Watching:
    """The state of one call of the command: arrived videos and their latest reports."""

    def __init__(
        self, options: RunOptions, runner: Runner, reporter: Reporter, *, settle_s: float
    ) -> None:
        self._options = options
        self._runner = runner
        self._reporter = reporter
        self._arrivals = Arrivals(settle_s)
        self._pause_s = max(_SHORTEST_PAUSE_S, min(_PAUSE_S, settle_s / 4))
        self._latest: dict[str, FileReport] = {}  # by input
        self._reports = self._failures = 0
        self._missed: set[str] = set()
        self._complete: set[Path] = set()
        self._others: set[str] = set()
        self._writers: dict[str, Job] = {}

    def until_end(self, idle_exit_s: float | None) -> RunSummary:
        """Scan and work until a signal, too many failures, or the end of an idle period."""
        begin = active = time.monotonic()
        interrupted = stopped = False
        try:
            self._reporter.watching(self._options.files.inputs)
            if idle_exit_s is None:
                self._runner.load()  # so that wrong options are reported now, not later
            while not stopped:
                look = time.monotonic()
                jobs, missing = self._look(look)
                looked_s = time.monotonic() - look
                if jobs or missing:
                    self._do(jobs, missing)
                stopped = self._failures_left == 0
                now = time.monotonic()
                if jobs or self._arrivals.waiting:
                    active = now
                elif idle_exit_s is not None and now - active >= idle_exit_s:
                    break
                time.sleep(max(self._pause_s, looked_s * (1 / _LOOKING - 1)))
        except KeyboardInterrupt:
            interrupted = True
        reports, elapsed_s = tuple(self._latest.values()), time.monotonic() - begin
        return RunSummary(reports, self._arrivals.waiting, interrupted, stopped, elapsed_s)

    @property
    def _failures_left(self) -> int | None:
        allowed = self._options.control.failures_allowed
        return None if allowed is None else max(0, allowed - self._failures)

    def _look(self, now_s: float) -> tuple[list[Job], list[tuple[str, VidgroundError]]]:
        """Return the jobs of complete videos, and inputs newly found missing or in conflict."""
        found = _find(self._options)
        news: list[tuple[str, VidgroundError]] = [
            (name, error) for name, error in found.missing if name not in self._missed
        ]
        missed = {name for name, _ in found.missing}
        for name in self._missed - missed:  # there again
            self._latest.pop(name, None)
        self._missed = missed
        videos = {video.path: video for video in found.videos}
        states = {
            path: (state, change_time_ns(path))
            for path in videos
            if (state := file_state(path)) is not None
        }
        jobs = []
        for path in self._arrivals.look(states, now_s):
            if path in self._complete:  # changed since; size and time alone may not show it
                self._runner.doubt(path)
            self._complete.add(path)
            try:
                jobs.append(self._planned(videos[path]))
            except InputError as error:
                news.append((str(path), error))
        return jobs, news

    def _planned(self, video: InputVideo) -> Job:
        """Return the video's job; refuse one that would overwrite another video's results."""
        (job,) = plan_jobs([video], self._options)
        outputs = {os.path.realpath(path): path for path in job.outputs.values() if path}
        for place, output in outputs.items():
            other = self._writers.get(place, job)
            if other.path != job.path and other.path.exists():
                raise InputError(clash_text(other, job, output))
        self._writers |= dict.fromkeys(outputs, job)
        return job

    def _do(self, jobs: Sequence[Job], missing: Sequence[tuple[str, VidgroundError]]) -> None:
        summary = self._runner.run(
            jobs,
            missing=missing,
            max_failures=self._failures_left,
            wait=False,
            before=self._reports,
            on_event=self._tell,
        )
        self._reports += len(summary.reports)
        self._failures += summary.failed
        self._latest |= {report.path: report for report in summary.reports}
        reported = {report.path for report in summary.reports}
        left = [job.path for job in jobs if str(job.path) not in reported]
        for path in left:  # another run works on it, or this one ends
            self._arrivals.again(path)
        self._others = {str(path) for path in left}
        if summary.interrupted:
            raise KeyboardInterrupt

    def _tell(self, event: Started | Waiting | FileReport) -> None:
        """Report a video that another run works on once, not at every scan."""
        if isinstance(event, FileReport) or event.path not in self._others:
            self._reporter.event(event)


def _find(options: RunOptions, *, count_subfolders: bool = False) -> FoundVideos:
    files = options.files
    return find_videos(
        files.inputs,
        recursive=files.recursive,
        relative_to=files.relative_to,
        empty_ok=True,
        exclude=files.exclude,
        count_subfolders=count_subfolders,
    )
