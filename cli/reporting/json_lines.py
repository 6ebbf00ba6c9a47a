"""Report a run as one JSON object per line, for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vidground.archive.events import FileReport, RunSummary, Started, Waiting
from vidground.cli.reporting.remaining import RemainingTime
from vidground.cli.reporting.reporter import Reporter
from vidground.progress import Progress

if TYPE_CHECKING:
    from vidground.checkpoints.announcement import Loading


class JsonReporter(Reporter):
    """Prints one JSON object per line.

    Every object has "event"; those about a file have "path". Bytes that are not UTF-8, as in names
    of files, are escaped surrogates, as Python reads and writes them.

    Args:
        quiet: print only failures, errors and the summary.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._remaining = RemainingTime({})

    def watching(self, folders: Sequence[str]) -> None:
        """Print {"event": "watching", "folders"}."""
        self._print("watching", folders=list(folders))

    def loading(self, loading: Loading) -> None:
        """Print {"event": "loading", "model", "source", "parameters", "dtype", "device", …}."""
        self._print("loading", **asdict(loading))

    def info(self, message: str) -> None:
        """Print {"event": "info", "message"}."""
        self._print("info", message=message)

    def expect(
        self,
        weights: Mapping[str, float],
        *,
        total: int | None = None,  # noqa: ARG002 - every "start" says it
    ) -> None:
        """Estimate the remaining time from these sizes."""
        self._remaining = RemainingTime(weights)

    def plan(self, path: str, action: str, reason: str, outputs: Sequence[str]) -> None:
        """Print {"event": "plan", "path", …} to standard output, because it was requested."""
        values = {"path": path, "action": action, "reason": reason, "outputs": list(outputs)}
        click.echo(json.dumps({"event": "plan", **values}))

    def event(self, event: Started | Waiting | FileReport) -> None:
        """Print {"event": "start" | "waiting" | "done" | "skipped" | "failed", "path", …}.

        A failure says of what kind it is ("failure"), and has a "traceback" if that is "internal".
        """
        if isinstance(event, Started):
            self._remaining.started(event.path, time.monotonic())
            self._print(
                "start",
                path=event.path,
                number=event.number,
                total=event.total,
                remaining_s=self._remaining.left_s(time.monotonic()),
            )
            return
        if isinstance(event, Waiting):
            self._print("waiting", path=event.path)
            return
        self._remaining.finished(event.path, worked=event.status == "done")
        if event.status == "failed":
            self._print(
                "failed",
                path=event.path,
                error=event.error,
                failure=event.failure,
                elapsed_s=event.elapsed_s,
                **_traceback(event.traceback),
            )
        elif event.status == "skipped":
            self._print("skipped", path=event.path, outputs=event.outputs, reason=event.reason)
        else:
            self._print(
                "done",
                path=event.path,
                outputs=event.outputs,
                events=event.events,
                warnings=event.warnings,
                reason=event.reason,
                elapsed_s=event.elapsed_s,
            )

    def progress(self, progress: Progress) -> None:
        """Print nothing: a line per batch of frames would drown the others."""

    def warn(self, message: str) -> None:
        """Print {"event": "warning", "message"}."""
        self._print("warning", message=message)

    def error(self, message: str, traceback: str = "") -> None:
        """Print {"event": "error", "message"}, with the "traceback" of an internal error."""
        self._print("error", message=message, **_traceback(traceback))

    def summary(self, summary: RunSummary) -> None:
        """Print {"event": "summary", "done", "empty", "skipped", "failed", …}."""
        values = {key: value for key, value in summary.to_dict().items() if key != "files"}
        self._print("summary", **values)

    def close(self) -> None:
        """Release nothing."""

    def _print(self, event: str, **values: Any) -> None:
        if self._quiet and event not in ("failed", "error", "summary"):
            return
        click.echo(json.dumps({"event": event, **values}), err=True)


def _traceback(text: str | None) -> dict[str, str]:
    return {"traceback": text} if text else {}
