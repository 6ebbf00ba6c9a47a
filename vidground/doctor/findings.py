"""Findings, and how checks are run: one that crashes is a failed check."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from vidground.errors import VidgroundError

Status = Literal["ok", "warning", "failed", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "warning", "failed", "skipped")

REPORT_IT = "report this with the output of: vidground doctor --json"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was checked: a package, a folder, a device with its dtype.
        status: "skipped" if the check was not run; the message says why.
        message: what was found, in one line.
        remedy: what to do about a warning or failure, in one line; otherwise empty.
        values: the finding as JSON values, for programs.
        check: name of the check, set by `run_checks`.
        seconds: time since the previous finding, set by `run_checks`.
    """

    subject: str
    status: Status
    message: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    check: str = ""
    seconds: float = 0.0


class Check(NamedTuple):
    """A named check.

    Attributes:
        name: of the check.
        subject: of the finding if the check crashes before its first one.
        run: the check.
    """

    name: str
    subject: str
    run: Callable[[], Iterable[Finding]]


def ok(subject: str, message: str, /, **values: Any) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(subject, "ok", message, values=values)


def warning(subject: str, message: str, remedy: str, /, **values: Any) -> Finding:
    """Return a finding that the user may want to act on, although the program works."""
    return Finding(subject, "warning", message, remedy, values)


def failed(subject: str, message: str, remedy: str, /, **values: Any) -> Finding:
    """Return a finding that something is wrong."""
    return Finding(subject, "failed", message, remedy, values)


def skipped(subject: str, reason: str, /, **values: Any) -> Finding:
    """Return a finding that a check was not run, with the reason."""
    return Finding(subject, "skipped", reason, values=values)


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run checks one after the other and yield their findings as they are made.

    A check that raises becomes a failed finding with the exception; the other checks still run.
    """
    for check in checks:
        start = time.perf_counter()
        for finding in _guarded(check):
            now = time.perf_counter()
            yield replace(finding, check=check.name, seconds=now - start)
            start = now


def worst(findings: Iterable[Finding]) -> Status:
    """Return the status of all findings together: "failed", "warning" or "ok"."""
    found = {finding.status for finding in findings}
    if "failed" in found:
        return "failed"
    return "warning" if "warning" in found else "ok"


def _guarded(check: Check) -> Iterator[Finding]:
    subject = check.subject
    try:
        for finding in check.run():
            subject = finding.subject
            yield finding
    except VidgroundError as error:
        yield failed(check.subject, _one_line(error), REPORT_IT, exception=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - reported as a failed finding
        yield failed(
            check.subject,
            f"the check crashed after {subject}: {_named(error)}"
            if subject != check.subject
            else f"the check crashed: {_named(error)}",
            REPORT_IT,
            exception=type(error).__name__,
            traceback=traceback.format_exc(),
        )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
