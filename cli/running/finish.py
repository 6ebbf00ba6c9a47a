"""The end of a command: its summary file, its last line and its exit code."""

import json
from typing import NoReturn

import click

from vidground.archive.events import RunSummary
from vidground.cli.options.log import LogOptions
from vidground.cli.reporting.reporter import Reporter
from vidground.errors import VidgroundError
from vidground.storage.atomic import write_atomically

FAILED = 1
"""Exit code when something failed."""


def end_with(summary: RunSummary, log: LogOptions, reporter: Reporter) -> NoReturn:
    """Report the summary, write it to the file of --summary, and end the program.

    The exit code is 0 if everything succeeded, 1 if something failed, and 128 plus the signal's
    number after a signal (130 for Ctrl-C).
    """
    failed = summary.failed > 0
    try:
        if log.summary is not None:
            text = json.dumps(summary.to_dict(), indent=2) + "\n"
            write_atomically(log.summary, text, parents=True)
    except VidgroundError as error:
        failed = True
        reporter.error(str(error))
    reporter.summary(summary)
    ending = click.get_current_context().find_root().obj
    code = FAILED if failed else 0
    raise click.exceptions.Exit(ending.exit_code if summary.interrupted else code)


def end_with_error(error: VidgroundError, reporter: Reporter) -> NoReturn:
    """Report an error that ended the whole run, and end the program with exit code 1."""
    reporter.close()
    reporter.error(str(error), getattr(error, "traceback", ""))
    raise click.exceptions.Exit(FAILED) from error
