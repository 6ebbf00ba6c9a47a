"""`vidground watch`: captions of videos that arrive in a folder, for as long as one lets it.

Folders are looked at again and again. To be told by the system (inotify) would take one more
library, would miss what other machines write to a network folder, and would still leave it open
when a file is complete.
"""

import os
import time
from collections.abc import Sequence
from contextlib import closing

import click

from vidground.archive.arrivals import SETTLE_S, Arrivals
from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.archive.inputs import FoundVideos, InputVideo, find_videos
from vidground.archive.outputs import Job, clash_text
from vidground.cli import caption
from vidground.cli.options.run_options import RunOptions, run_options
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.faults import reported_faults
from vidground.cli.reporting.make_reporter import Reporter, reporting
from vidground.cli.running.batch import check_outputs, plan_jobs
from vidground.cli.running.finish import end_with, end_with_error
from vidground.cli.running.runner import Runner, set_environment
from vidground.errors import InputError, VidgroundError
from vidground.storage.files import file_state

_PAUSE_S = 1.0  # between two looks; less if a file may be complete sooner
_SHORTEST_PAUSE_S = 0.05
_LOOKING = 0.05  # looks at folders with very many files take no more than this share of the time


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
    help="A file is complete once it has not changed for so long.",
)
@click.option(
    "--idle-exit",
    "idle_exit_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End once nothing has arrived, grown or been done for so long; 0 ends as soon as all that "
    "is there is done. If not given, only Ctrl-C or SIGTERM end it.",
)
def watch(
    options: RunOptions, question: str | None, settle_s: float, idle_exit_s: float | None
) -> None:
    """Write down what happens in videos as they arrive in DIR, and when.

    Does what `vidground caption DIR` does, with the same record, for videos that are there and for
    those that come, each once it has stopped growing; one that is replaced is done again. One that
    fails is told of and left until it changes, or until the next start if that was not its fault.
    Files that are still being fetched (match.mp4.part, .match.mp4) are no videos yet. Ctrl-C and
    SIGTERM end it, with the counts of all videos as they were left.

    \b
    vidground watch incoming --recursive --out srt,json -o results
    vidground watch incoming --idle-exit 0 --summary run.json
    """
    asked, log = caption.asked_of(question), options.log
    set_environment(options)
    check_outputs(options, several=True)
    with usage_errors():
        _find(options)  # a folder outside of --relative-to is found before any work
    with reporting(log.log_format, noun="event", total=0, quiet=log.quiet) as reporter:
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
    """One call of the command: what has arrived, and what became of it."""

    def __init__(
        self, options: RunOptions, runner: Runner, reporter: Reporter, *, settle_s: float
    ) -> None:
        self._options = options
        self._runner = runner
        self._reporter = reporter
        self._arrivals = Arrivals(settle_s)
        self._pause_s = max(_SHORTEST_PAUSE_S, min(_PAUSE_S, settle_s / 4))
        self._latest: dict[str, FileReport] = {}  # by input; what counts is how it was left
        self._reports = self._failures = 0
        self._missed: set[str] = set()
        self._others: set[str] = set()
        self._writers: dict[str, Job] = {}

    def until_end(self, idle_exit_s: float | None) -> RunSummary:
        """Look and work until a signal comes, too many have failed, or nothing happens any more."""
        begin = active = time.monotonic()
        interrupted = stopped = False
        try:
            self._reporter.watching(self._options.files.inputs)
            if idle_exit_s is None:
                self._runner.load()  # a mistake is better found now than when a video arrives
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
        """Return what is to be done now, and what is newly found to be missing or in the way."""
        found = _find(self._options)
        news: list[tuple[str, VidgroundError]] = [
            (name, error) for name, error in found.missing if name not in self._missed
        ]
        missed = {name for name, _ in found.missing}
        for name in self._missed - missed:  # there again
            self._latest.pop(name, None)
        self._missed = missed
        videos = {video.path: video for video in found.videos}
        states = {path: state for path in videos if (state := file_state(path)) is not None}
        jobs = []
        for path in self._arrivals.look(states, now_s):
            try:
                jobs.append(self._planned(videos[path]))
            except InputError as error:
                news.append((str(path), error))
        return jobs, news

    def _planned(self, video: InputVideo) -> Job:
        """The video's job, unless its results would take the place of another video's."""
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
        for path in left:  # another run is at it, or this one ends
            self._arrivals.again(path)
        self._others = {str(path) for path in left}
        if summary.interrupted:
            raise KeyboardInterrupt

    def _tell(self, event: Started | Waiting | FileReport) -> None:
        """Tell of a video that another run works on once, not at every look."""
        if isinstance(event, FileReport) or event.path not in self._others:
            self._reporter.event(event)


def _find(options: RunOptions) -> FoundVideos:
    files = options.files
    return find_videos(
        files.inputs, recursive=files.recursive, relative_to=files.relative_to, empty_ok=True
    )
