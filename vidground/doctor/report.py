"""Format findings as lines and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vidground import __version__
from vidground.doctor.findings import STATUSES, Finding, worst

SCHEMA_VERSION = 1
"""Incremented when a key of the JSON changes its meaning or is removed."""

_COLUMNS = (8, 16, 27)


def to_lines(finding: Finding) -> list[str]:
    """Return a finding as a line, and a second line with its remedy if it has one."""
    cells = (finding.status, finding.check, finding.subject)
    start = "".join(
        cell.ljust(width - 1) + " " for cell, width in zip(cells, _COLUMNS, strict=True)
    )
    lines = [start + finding.message]
    if finding.remedy:
        lines.append(" " * _COLUMNS[0] + f"remedy: {finding.remedy}")
    return lines


def to_summary(findings: Sequence[Finding]) -> str:
    """Return the number of findings of each status, and what to add to a bug report."""
    counts = Counter(finding.status for finding in findings)
    listed = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    seconds = sum(finding.seconds for finding in findings)
    return (
        f"{listed} in {seconds:.0f} s; in a bug report, add the output of: vidground doctor --json"
    )


def to_dict(findings: Sequence[Finding], devices: Sequence[str]) -> dict[str, Any]:
    """Return the report as JSON values with stable keys.

    Args:
        findings: of all checks.
        devices: as requested; empty for all.
    """
    return {
        "schema": "vidground-doctor",
        "schema_version": SCHEMA_VERSION,
        "vidground": __version__,
        "status": worst(findings),
        "seconds": round(sum(finding.seconds for finding in findings), 3),
        "devices": list(devices),
        "findings": [_one(finding) for finding in findings],
    }


def _one(finding: Finding) -> Mapping[str, Any]:
    values = asdict(finding)
    values["seconds"] = round(finding.seconds, 3)
    order = ("check", "subject", "status", "message", "remedy", "seconds", "values")
    return {key: values[key] for key in order}
