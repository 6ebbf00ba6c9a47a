"""Runs over an archive of files that are no videos, with work that only counts: for the tests of
what is done, what is left, and what a killed run leaves behind.

As a program (`python archive_runs.py FOLDER COUNT`) it is one such run, made to be killed.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.helpers.result_makers import VIDEO, captions
from tests.helpers.workers import worker_of
from vidground.archive.events import RunSummary
from vidground.archive.inputs import find_videos
from vidground.archive.ledger import Ledger
from vidground.archive.outputs import Job, plan_outputs
from vidground.archive.planning import Recipe
from vidground.archive.run import run_archive
from vidground.results.documents import Result
from vidground.results.types import Event
from vidground.storage.files import file_sha256

FORMATS = ("srt", "json")


class Work:
    """Gives one event per video, which depends on its content; keeps the names of its videos.

    errors: what to raise, by name. meanwhile: called with the video's path while it is "read".
    """

    def __init__(
        self,
        errors: Mapping[str, Exception] | None = None,
        meanwhile: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.errors = dict(errors or {})
        self.meanwhile = meanwhile
        self.done: list[str] = []

    def __call__(self, job: Job, _: Any) -> Result:
        self.done.append(job.path.name)
        sha256 = file_sha256(job.path)
        self.meanwhile(job.path)
        if job.path.name in self.errors:
            raise self.errors[job.path.name]
        video = replace(VIDEO, path=str(job.path), sha256=sha256)
        return replace(captions(Event(0.0, 1.0, f"seen {sha256[:8]}")), video=video)


def make_archive(folder: Path, count: int) -> Path:
    """Files with the names of videos, some in a folder of their own."""
    for index in range(count):
        path = folder / ("deep" if index % 3 == 2 else "") / f"{index:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"video {index}".encode())
    return folder


def jobs_of(
    archive: Path, out: Path | None = None, *, formats: Sequence[str] = FORMATS
) -> list[Job]:
    videos = find_videos([archive], recursive=True).videos
    return plan_outputs(videos, formats, folder=out)


def run(
    jobs: Sequence[Job],
    work: Work,
    *,
    options: Mapping[str, Any] | None = None,
    shape: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    **rest: Any,
) -> RunSummary:
    recipe = Recipe(options=options or {"fps": 1.0}, shape=shape or {})
    ledger = Ledger(recipe, overwrite=overwrite, retry_failed=retry_failed)
    return run_archive(jobs, worker_of(work), ledger=ledger, **rest)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the record itself, by their names from the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".vidground.")
    }


def main() -> None:
    """Caption an archive; a line per video on standard output once the "model" is through."""
    folder = Path(sys.argv[1])

    def announce(path: Path) -> None:
        time.sleep(0.004)
        print(path.name, flush=True)

    summary = run(jobs_of(folder / "in", folder / "out"), Work(meanwhile=announce))
    sys.exit(1 if summary.failed or summary.unfinished else 0)


if __name__ == "__main__":
    main()
