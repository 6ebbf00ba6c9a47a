"""The options that say what a run reports, and in which form."""

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What a run reports, and in which form.

    Attributes:
        quiet: only report failures.
        log_format: "text" or "json".
        summary: file for the summary of the run; None for no file.
    """

    quiet: bool
    log_format: str
    summary: Path | None


LOG_OPTIONS = [
    click.option("--quiet", "-q", is_flag=True, help="Only report failures."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of the log on standard error. json: one object per line, without progress "
        "bars.",
    ),
    click.option(
        "--summary",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.json",
        help="Write the outcome of every input to this file.",
    ),
]
