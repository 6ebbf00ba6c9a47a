"""The options that say what a run repeats, when it stops and what counts as a failure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vidground.errors import InputError
from vidground.results.conditions import CONDITION_NAMES, Condition, parse_conditions


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """What a run repeats, when it stops and what counts as a failure.

    Attributes:
        retry_failed: retry unchanged videos that failed in an earlier run.
        dry_run: only print what would be done.
        fail_fast: stop at the first failure.
        max_failures: stop after this number of failures; None for no limit.
        fail_on: conditions on which a result counts as failed.
        manifest: record what was done next to the results.
    """

    retry_failed: bool
    dry_run: bool
    fail_fast: bool
    max_failures: int | None
    fail_on: tuple[Condition, ...]
    manifest: bool

    @property
    def failures_allowed(self) -> int | None:
        """Number of failures after which the run stops; None for no limit."""
        return 1 if self.fail_fast else self.max_failures


def check_control(control: ControlOptions, *, to_stdout: bool, summary: bool) -> None:
    """Refuse options that would have no effect."""
    if control.fail_fast and control.max_failures is not None:
        raise click.UsageError("--fail-fast means --max-failures 1; give only one of them.")
    if control.retry_failed and (to_stdout or not control.manifest):
        raise click.UsageError(
            "--retry-failed needs the record of earlier runs, which -o - and --no-manifest do not "
            "keep."
        )
    if control.dry_run and summary:
        raise click.UsageError(
            "--summary describes a run, and --dry-run does not run; leave one of them out."
        )


def _parse_conditions(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[Condition, ...]:
    try:
        return () if value is None else parse_conditions(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


DRY_RUN = click.option("--dry-run", is_flag=True, help="Only print what would be done and why.")
CONTROL_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Retry videos that failed in an earlier run and have not changed since.",
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option(
        "--max-failures",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop after N failed inputs.",
    ),
    click.option(
        "--fail-on",
        metavar="CONDITION[,...]",
        callback=_parse_conditions,
        help="Count a result as failed, although it is written, if one of these holds: "
        f"{', '.join(CONDITION_NAMES)}; on its own, or with a limit such as coverage<0.5.",
    ),
    click.option(
        "--manifest/--no-manifest",
        default=True,
        show_default=True,
        help="Keep a record of the run (.vidground.sqlite3) in the folder of the results, so that "
        "later runs redo what has changed. Without it, existing files are skipped by name.",
    ),
]
