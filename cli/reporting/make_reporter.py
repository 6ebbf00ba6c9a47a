"""Make the reporter of a run over many videos: bars and lines, or JSON lines.

A reporter prints events (`vidground.archive.events`) to standard error. Names of files are escaped
where they are shown, because they may contain anything. Knows nothing about the work of the run.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vidground.cli.reporting.faults import tracebacks_wanted
from vidground.cli.reporting.json_lines import JsonReporter
from vidground.cli.reporting.loading import InfoHandler, listening
from vidground.cli.reporting.reporter import Reporter, shown
from vidground.cli.reporting.text import TextReporter

__all__ = ["JsonReporter", "Reporter", "TextReporter", "bars_wanted", "reporting", "shown"]


@contextmanager
def reporting(
    log_format: str, *, noun: str, total: int, quiet: bool, answers: bool = False
) -> Iterator[Reporter]:
    """Make a reporter, which also reports warnings and logs of libraries while it is in use.

    Args:
        log_format: "text" or "json".
        noun: see `TextReporter`.
        total: see `TextReporter`.
        quiet: see `TextReporter`.
        answers: see `TextReporter`; they are not printed as JSON.
    """
    reporter: Reporter
    if log_format == "json":
        reporter = JsonReporter(quiet=quiet)
    else:
        bars = bars_wanted(log_format, quiet=quiet)
        reporter = TextReporter(
            noun=noun,
            total=total,
            quiet=quiet,
            bars=bars,
            answers=answers,
            tracebacks=tracebacks_wanted(),
        )
    handler = _LogHandler(reporter)
    logging.getLogger().addHandler(handler)
    info = InfoHandler(reporter.loading, reporter.info)
    try:
        with listening(info), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: reporter.warn(str(message))
            yield reporter
    finally:
        logging.getLogger().removeHandler(handler)
        reporter.close()


def bars_wanted(log_format: str, *, quiet: bool) -> bool:
    """Return whether to show progress bars: to a person at a terminal."""
    return log_format == "text" and not quiet and on_terminal()


def on_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()  # None if the caller closed it


class _LogHandler(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__(level=logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.warn(record.getMessage())
