"""What is told of a run, and how."""

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is told of the run, and how."""

    quiet: bool
    log_format: str
    summary: Path | None


LOG_OPTIONS = [
    click.option("--quiet", "-q", is_flag=True, help="Tell of failures only."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json: an object per line on standard error, without progress bars.",
    ),
    click.option(
        "--summary",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.json",
        help="Write what became of every input to this file.",
    ),
]
