"""The options that say what a run does again, when it stops and what counts as failed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vidground.errors import InputError
from vidground.results.conditions import CONDITION_NAMES, Condition, parse_conditions


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """What is done again, when the run stops, what counts as failed.

    manifest: whether what is done is recorded beside the results.
    """

    retry_failed: bool
    dry_run: bool
    fail_fast: bool
    max_failures: int | None
    fail_on: tuple[Condition, ...]
    manifest: bool

    @property
    def failures_allowed(self) -> int | None:
        """The run ends at so many failures; None for never."""
        return 1 if self.fail_fast else self.max_failures


def check_control(control: ControlOptions, *, to_stdout: bool, summary: bool) -> None:
    """Refuse options that would have no effect."""
    if control.fail_fast and control.max_failures is not None:
        raise click.UsageError("--fail-fast is --max-failures 1; give one of the two.")
    if control.retry_failed and (to_stdout or not control.manifest):
        raise click.UsageError(
            "--retry-failed goes by the record of earlier runs, which -o - and --no-manifest "
            "do without."
        )
    if control.dry_run and summary:
        raise click.UsageError("--summary tells of a run; --dry-run makes none.")


def _parse_conditions(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[Condition, ...]:
    try:
        return () if value is None else parse_conditions(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Say what would be done and why, and do nothing."
)
CONTROL_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Try videos again that failed in an earlier run and have not changed since.",
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option(
        "--max-failures",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop when so many inputs have failed.",
    ),
    click.option(
        "--fail-on",
        metavar="CONDITION[,...]",
        callback=_parse_conditions,
        help="Count a result as failed, though it is written, on any of these: "
        f"{', '.join(CONDITION_NAMES)}; alone, or with a limit as in coverage<0.5.",
    ),
    click.option(
        "--manifest/--no-manifest",
        default=True,
        show_default=True,
        help="Keep a record of what is done (.vidground.sqlite3) in the folder of the results, by "
        "which later runs redo what has changed. Without it they go by the names of files.",
    ),
]
