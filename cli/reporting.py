"""What a run over many videos tells on standard error: bars and lines, or JSON lines.

A reporter is told what happens (`vidground.archive`) and prints it. Names of files are escaped
where they are shown, for they may hold anything. Knows nothing of what the run does.
"""

import json
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from tqdm import tqdm

from vidground.archive import FileReport, RunSummary, Started
from vidground.files import printable
from vidground.progress import Progress


def shown(text: str) -> str:
    """Return `text` in one line that a terminal only shows: what is not printable is escaped.

    Line breaks become `\\n`, bytes that are not UTF-8 `\\xff`, marks that reorder text `\\u202e`.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


class Reporter(ABC):
    """Tells of a run. Use as the target of `run_archive`'s callbacks."""

    @abstractmethod
    def event(self, event: Started | FileReport) -> None:
        """A video begins, or it is known what became of it."""

    @abstractmethod
    def progress(self, progress: Progress) -> None:
        """How far the current video is."""

    @abstractmethod
    def warn(self, message: str) -> None:
        """Something that a library says."""

    @abstractmethod
    def error(self, message: str) -> None:
        """Why the whole run ends."""

    @abstractmethod
    def summary(self, summary: RunSummary) -> None:
        """The run is over."""

    @abstractmethod
    def close(self) -> None:
        """The terminal is free for others."""


class TextReporter(Reporter):
    """Lines for people; with bars over files and over the frames of the current file.

    noun: what a result is counted in ("event"). quiet: tell of failures only.
    """

    def __init__(self, *, noun: str, total: int, quiet: bool, bars: bool) -> None:
        self._noun = noun
        self._total = total
        self._quiet = quiet
        self._bars = bars
        self._files: Any = None
        self._frames: Any = None

    def event(self, event: Started | FileReport) -> None:
        """Show the current video in the bar, or a line about one that is over."""
        if self._bars and self._files is None:
            # Not earlier: while a model is fetched and loaded, other bars are shown.
            self._files = tqdm(total=self._total, unit="file", position=0, file=sys.stderr)
            self._frames = tqdm(unit="frame", position=1, leave=False, file=sys.stderr)
        if isinstance(event, Started):
            if self._frames is not None:
                self._frames.reset()
                self._frames.set_description_str(_shortened(shown(event.path)))
            return
        for line in self._lines(event):
            self._print(line)
        if self._files is not None:
            self._files.update()

    def progress(self, progress: Progress) -> None:
        """Move the bar of the current video."""
        if self._frames is None:
            return
        self._frames.total = progress.samples
        self._frames.set_postfix_str(
            f"{progress.answers_done}/{progress.answers} answers", refresh=False
        )
        self._frames.update(progress.samples_done - self._frames.n)
        self._frames.refresh()

    def warn(self, message: str) -> None:
        """Print what a library says, unless quiet."""
        if not self._quiet:
            self._print(f"warning: {shown(message)}")

    def error(self, message: str) -> None:
        """Print why the run ends."""
        self._print(f"error: {shown(message)}")

    def summary(self, summary: RunSummary) -> None:
        """Print the inputs that failed, unless it is the only one, and last the counts."""
        self.close()
        failures = [report.path for report in summary.reports if report.status == "failed"]
        if failures and len(summary.reports) > 1:
            self._print("failed inputs:")
            for path in failures:
                self._print(f"  {shown(path)}")
        if failures or summary.interrupted or not self._quiet:
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
        elif self._quiet:
            return
        elif report.status == "skipped":
            outputs = ", ".join(shown(output) for output in report.outputs)
            yield f"skipped: {path}: {outputs} exists (--overwrite makes it again)"
        else:
            count = f"{report.events} {self._noun}{'' if report.events == 1 else 's'}"
            outputs = ", ".join(shown(output) for output in report.outputs) or "standard output"
            yield f"done: {path} -> {outputs} ({count}, {report.elapsed_s:.1f} s)"
            for warning in report.warnings:
                yield f"warning: {path}: {shown(warning)}"

    def _print(self, line: str) -> None:
        if self._files is not None:
            self._files.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)


class JsonReporter(Reporter):
    """An object per line, for programs. quiet: failures, errors and the summary only.

    Every object has "event"; those about a file have "path". Characters that are no Unicode, as
    in names that are not UTF-8, stand as escaped surrogates, as Python reads and writes them.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def event(self, event: Started | FileReport) -> None:
        """Print {"event": "start" | "done" | "skipped" | "failed", "path", …}."""
        if isinstance(event, Started):
            self._print("start", path=event.path, number=event.number, total=event.total)
        elif event.status == "failed":
            self._print("failed", path=event.path, error=event.error, elapsed_s=event.elapsed_s)
        elif event.status == "skipped":
            self._print("skipped", path=event.path, outputs=event.outputs)
        else:
            self._print(
                "done",
                path=event.path,
                outputs=event.outputs,
                events=event.events,
                warnings=event.warnings,
                elapsed_s=event.elapsed_s,
            )

    def progress(self, progress: Progress) -> None:
        """Nothing: a line per batch of frames would drown the others."""

    def warn(self, message: str) -> None:
        """Print {"event": "warning", "message"}."""
        self._print("warning", message=message)

    def error(self, message: str) -> None:
        """Print {"event": "error", "message"}."""
        self._print("error", message=message)

    def summary(self, summary: RunSummary) -> None:
        """Print {"event": "summary", "done", "empty", "skipped", "failed", …}."""
        failures = [report.path for report in summary.reports if report.status == "failed"]
        self._print(
            "summary",
            **summary.counts,
            interrupted=summary.interrupted,
            failed_paths=failures,
        )

    def close(self) -> None:
        """Nothing to free."""

    def _print(self, event: str, **values: Any) -> None:
        if self._quiet and event not in ("failed", "error", "summary"):
            return
        click.echo(json.dumps({"event": event, **values}), err=True)


@contextmanager
def reporting(log_format: str, *, noun: str, total: int, quiet: bool) -> Iterator[Reporter]:
    """Make a reporter, and let it also tell what libraries warn and log while it is in use."""
    reporter: Reporter
    if log_format == "json":
        reporter = JsonReporter(quiet=quiet)
    else:
        bars = bars_wanted(log_format, quiet=quiet)
        reporter = TextReporter(noun=noun, total=total, quiet=quiet, bars=bars)
    handler = _LogHandler(reporter)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: reporter.warn(str(message))
            yield reporter
    finally:
        logging.getLogger().removeHandler(handler)
        reporter.close()


def bars_wanted(log_format: str, *, quiet: bool) -> bool:
    """Whether progress bars make sense: for a person at a terminal."""
    return log_format == "text" and not quiet and sys.stderr.isatty()


class _LogHandler(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__(level=logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.warn(record.getMessage())


def _counts_line(summary: RunSummary) -> str:
    counts = (
        f"{summary.done} done ({summary.empty} empty), {summary.skipped} skipped, "
        f"{summary.failed} failed"
    )
    if summary.unfinished:
        counts += f", {summary.unfinished} not finished"
    return f"interrupted: {counts}" if summary.interrupted else counts


def _shortened(name: str, length: int = 30) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]
