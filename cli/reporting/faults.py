"""Report bugs of the program: one line, and the traceback on request."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from vidground.cli.reporting.reporter import shown
from vidground.errors import VidgroundError
from vidground.faults import faults_as_internal

TRACEBACK_OPTION = click.option(
    "--traceback",
    is_flag=True,
    envvar="VIDGROUND_TRACEBACK",
    help="Print the traceback of internal errors; put it into a report of one.",
)


def tracebacks_wanted() -> bool:
    """Return whether the running command prints tracebacks of internal errors."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("traceback"))


@contextmanager
def reported_faults() -> Iterator[None]:
    """Raise bugs as InternalError; exceptions of click and others pass unchanged."""
    ending: Exception | None = None
    with faults_as_internal():
        try:
            yield
        except (click.ClickException, click.Abort, click.exceptions.Exit) as error:
            ending = error
    if ending is not None:
        raise ending


def say_failure(
    error: VidgroundError, *, word: str = "failed", with_traceback: bool | None = None
) -> None:
    """Print why something failed, and its traceback on request.

    Args:
        error: what failed.
        word: begins the line.
        with_traceback: whether to print the traceback; None for the choice of the running command.
    """
    click.echo(f"{word}: {shown(str(error))}", err=True)
    traceback = getattr(error, "traceback", "")
    if traceback and (tracebacks_wanted() if with_traceback is None else with_traceback):
        click.echo(traceback, err=True)
