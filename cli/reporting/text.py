"""Report a run to people: lines and bars on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.cli.reporting.answer_lines import answer_lines
from vidground.cli.reporting.remaining import RemainingTime, spoken
from vidground.cli.reporting.reporter import Reporter, shown
from vidground.progress import Progress
from vidground.storage.files import printable

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading

_FAILURES_NAMED = 3  # in the last line; if there are more, all are listed before it
_PLANNED = {
    "work": "would do",
    "render": "would write",
    "skip": "would skip",
    "failed": "would fail",
}
_PLAIN_REASONS = ("", "no result yet")


class TextReporter(Reporter):
    """Prints lines for people, and bars of the files and of the frames in progress.

    Args:
        noun: what a result is counted in ("event").
        total: number of inputs.
        quiet: only report failures.
        bars: show progress bars.
        answers: print the captions, or the moments and the answer, of each video that is done.
        tracebacks: print those of internal errors.
    """

    def __init__(
        self,
        *,
        noun: str,
        total: int,
        quiet: bool,
        bars: bool,
        answers: bool = False,
        tracebacks: bool = False,
    ) -> None:
        self._noun = noun
        self._answers = answers
        self._total = total
        self._quiet = quiet
        self._bars = bars
        self._tracebacks = tracebacks
        self._told = set[str]()
        self._files: Any = None
        self._frames: Any = None
        self._remaining = RemainingTime({})
        self._current: dict[str, Progress | None] = {}

    def watching(self, folders: Sequence[str]) -> None:
        """Print a line, unless quiet."""
        if not self._quiet:
            self._print(f"watching: {', '.join(map(shown, folders))} (Ctrl-C ends it)")

    def loading(self, loading: Loading) -> None:
        """Print a line, unless quiet."""
        self.info(str(loading))

    def info(self, message: str) -> None:
        """Print the message, unless quiet."""
        self._told.add(message)
        if not self._quiet:
            self._print(shown(message))

    def expect(self, weights: Mapping[str, float], *, total: int | None = None) -> None:
        """Estimate the remaining time from these sizes."""
        self._remaining = RemainingTime(weights)
        if total is not None:
            self._total = total
            if self._files is not None:
                self._files.total = total
                self._files.set_postfix_str("")

    def plan(self, path: str, action: str, reason: str, outputs: Sequence[str]) -> None:
        """Print a line to standard output, because it was requested."""
        files = f" -> {', '.join(map(shown, outputs))}" if outputs else ""
        click.echo(f"{_PLANNED[action]}: {shown(path)}{files} ({shown(reason)})")

    def event(self, event: Started | Waiting | FileReport) -> None:
        """Show the current video in the bar, or a line about one that has ended."""
        if self._bars and self._files is None:
            # Not earlier: while a model is fetched and loaded, other bars are shown.
            self._files = tqdm(
                total=self._total,
                unit="file",
                position=0,
                file=sys.stderr,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} files [{elapsed}{postfix}]",
            )
            self._frames = tqdm(unit="frame", position=1, leave=False, file=sys.stderr)
        if isinstance(event, Started):
            self._remaining.started(event.path, time.monotonic())
            self._current[event.path] = None
            self._show_frames()
            return
        if isinstance(event, Waiting):
            self._current.pop(event.path, None)
            if not self._quiet:
                self._print(f"waiting: {shown(event.path)}: another run works on it")
            return
        self._remaining.finished(event.path, worked=event.status == "done")
        self._current.pop(event.path, None)
        for line in self._lines(event):
            self._print(line)
        if self._files is not None:
            self._show_remaining()
            self._files.update()

    def progress(self, progress: Progress) -> None:
        """Move the bar of the videos in progress."""
        if self._frames is None or progress.path not in self._current:
            return
        self._current[progress.path] = progress
        self._remaining.moved(progress.path, progress.samples_done / max(1, progress.samples))
        self._show_frames()
        self._show_remaining()

    def warn(self, message: str) -> None:
        """Print a warning of a library, unless quiet."""
        if not self._quiet:
            self._print(f"warning: {shown(message)}")

    def error(self, message: str, traceback: str = "") -> None:
        """Print why the run ends."""
        self._print(f"error: {shown(message)}")
        if traceback and self._tracebacks:
            self._print(traceback)

    def summary(self, summary: RunSummary) -> None:
        """Print the failed inputs if there are many, and then counts, names and speed."""
        self.close()
        if len(summary.failures) > _FAILURES_NAMED:
            self._print("failed inputs:")
            for path in summary.failures:
                self._print(f"  {shown(path)}")
        if summary.failures or summary.interrupted or not self._quiet:
            self._print(_counts_line(summary))

    def close(self) -> None:
        """Remove the bars."""
        for bar in (self._frames, self._files):
            if bar is not None:
                bar.close()
        self._files = self._frames = None

    def _lines(self, report: FileReport) -> Iterator[str]:
        path = shown(report.path)
        if report.error is not None:
            # Most errors begin with the name of the file.
            named = printable(report.path) in report.error
            yield "failed: " + ("" if named else f"{path}: ") + shown(report.error)
            if report.traceback and self._tracebacks:
                yield report.traceback
        elif self._quiet:
            return
        elif report.status == "skipped":
            outputs = ", ".join(shown(output) for output in report.outputs)
            yield f"skipped: {path}: {outputs}: {shown(report.reason)}"
            yield from self._answer_lines(report)
        else:
            count = f"{report.events} {self._noun}{'' if report.events == 1 else 's'}"
            outputs = ", ".join(shown(output) for output in report.outputs) or "standard output"
            why = f"; {shown(report.reason)}" if report.reason not in _PLAIN_REASONS else ""
            yield f"done: {path} -> {outputs} ({count}, {report.elapsed_s:.1f} s{why})"
            yield from self._answer_lines(report)
            for warning in report.warnings:
                if warning in self._told:  # as what is true of all answers of a model
                    continue
                yield f"warning: {path}: {shown(warning)}"

    def _answer_lines(self, report: FileReport) -> Iterator[str]:
        if self._answers and report.result is not None:
            yield from answer_lines(report.result)

    def _show_frames(self) -> None:
        if self._frames is None or not self._current:
            return
        names, known = list(self._current), [p for p in self._current.values() if p is not None]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self._frames.set_description_str(_shortened(shown(names[0])) + more, refresh=False)
        answers = sum(p.answers for p in known)
        self._frames.set_postfix_str(
            f"{sum(p.answers_done for p in known)}/{answers} answers" if answers else "",
            refresh=False,
        )
        self._frames.total = sum(p.samples for p in known)
        self._frames.n = sum(p.samples_done for p in known)
        self._frames.refresh()

    def _show_remaining(self) -> None:
        left_s = self._remaining.left_s(time.monotonic())
        if left_s is not None:
            self._files.set_postfix_str(f"about {spoken(left_s)} left")

    def _print(self, line: str) -> None:
        if self._files is not None:
            self._files.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)


def _counts_line(summary: RunSummary) -> str:
    counts = (
        f"{summary.done} done ({summary.empty} empty), {summary.skipped} skipped, "
        f"{summary.failed} failed"
    )
    if summary.internal_errors:
        counts += f" ({summary.internal_errors} by an internal error)"
    if summary.unfinished:
        counts += f", {summary.unfinished} not finished"
    if summary.failures:
        counts += f": {_names(summary.failures)}"
    speed = summary.speed
    if speed:
        counts += (
            f"; {speed['video_s_per_s']:.3g} s of video per second, "
            f"{speed['files_per_minute']:.3g} files per minute"
        )
    if summary.interrupted:
        return f"interrupted: {counts}"
    return f"stopped, too many failures: {counts}" if summary.stopped else counts


def _names(paths: Sequence[str]) -> str:
    names = [shown(path) for path in paths[:_FAILURES_NAMED]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _shortened(name: str, length: int = 30) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]
