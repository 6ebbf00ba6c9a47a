"""What a check found, and how checks are run: one that crashes is a failed check."""

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
        subject: what was looked at: a package, a folder, a device with its dtype.
        status: "skipped" for what was not run; the message says why.
        message: what was found, in one line.
        remedy: what to do about a warning or failure, in one line; else empty.
        values: the same in numbers and names, for programs; only what JSON can hold.
        check: name of the check, set by `run_checks`.
        seconds: time since the finding before it, set by `run_checks`.
    """

    subject: str
    status: Status
    message: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    check: str = ""
    seconds: float = 0.0


class Check(NamedTuple):
    """A named check. subject: reported if the check crashes before its first finding."""

    name: str
    subject: str
    run: Callable[[], Iterable[Finding]]


def ok(subject: str, message: str, /, **values: Any) -> Finding:
    """Everything is as it should be."""
    return Finding(subject, "ok", message, values=values)


def warning(subject: str, message: str, remedy: str, /, **values: Any) -> Finding:
    """Something that a user may want to change; the program works."""
    return Finding(subject, "warning", message, remedy, values)


def failed(subject: str, message: str, remedy: str, /, **values: Any) -> Finding:
    """Something is wrong."""
    return Finding(subject, "failed", message, remedy, values)


def skipped(subject: str, reason: str, /, **values: Any) -> Finding:
    """Not run, and why."""
    return Finding(subject, "skipped", reason, values=values)


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run checks one after the other and yield what each finds as soon as it is known.

    A check that raises is a failed finding with the exception; the checks after it run all the
    same.
    """
    for check in checks:
        start = time.perf_counter()
        findings = _guarded(check)
        for finding in findings:
            now = time.perf_counter()
            yield replace(finding, check=check.name, seconds=now - start)
            start = now


def worst(findings: Iterable[Finding]) -> Status:
    """The status of all findings together: "failed", "warning" or "ok"."""
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
    except Exception as error:  # noqa: BLE001 - becomes a failed finding, and the others are run
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
