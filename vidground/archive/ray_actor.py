"""The far side of a run by Ray: the desk that hands out jobs, and the workers that do them.

Plain classes which know nothing of Ray (`vidground.archive.ray_workers` starts them), so a job's
way can be followed without it. What a worker tells is data: results, or the errors that there were.
"""

import asyncio
import os
import pickle
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidground.archive.outputs import Job
from vidground.archive.workers import Work, Workers, as_workers
from vidground.errors import VideoError, VidgroundError
from vidground.faults import as_internal, is_fault
from vidground.results.documents import Result
from vidground.storage.files import printable

TRIES = 3
"""A video whose worker has died so often is given up."""


@dataclass(frozen=True, slots=True)
class Handed:
    """The number-th job, handed out for the times-th time."""

    number: int
    job: Job
    times: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the number-th job; see `work.Finished`.

    times: how often it was handed out. ends_run: the error is none of this job's alone.
    """

    number: int
    outcome: Result | Exception
    elapsed_s: float
    times: int
    ends_run: bool = False


class Desk:
    """Hands out jobs in the order they came, to whoever has a turn.

    A turn that comes again, because the worker that had it died, gets the job that it had.
    """

    def __init__(self) -> None:
        self._jobs: deque[tuple[int, Job]] = deque()
        self._given: dict[int, tuple[int, Job]] = {}
        self._times: Counter[int] = Counter()
        self._more = asyncio.Condition()

    async def put(self, number: int, job: Job) -> None:
        """Lay a job on the desk."""
        async with self._more:
            self._jobs.append((number, job))
            self._more.notify_all()

    async def take(self, turn: int) -> Handed:
        """Take the job of a turn, once there is one."""
        async with self._more:
            await self._more.wait_for(lambda: turn in self._given or bool(self._jobs))
            if turn not in self._given:
                self._given[turn] = self._jobs.popleft()
            self._times[turn] += 1
            number, job = self._given[turn]
            return Handed(number, job, self._times[turn])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker takes over from the process whose run it is.

    folder: that relative paths start from. variables: of the environment.
    """

    folder: str
    variables: Mapping[str, str]


class VideoWorker:
    """Does the jobs of its turns, one after the other, with a model that is loaded for the first.

    take: gives the job of a turn. load: gives the work.
    """

    def __init__(
        self,
        take: Callable[[int], Handed],
        load: Callable[[], Work | Workers],
        surroundings: Surroundings,
    ) -> None:
        self._take = take
        self._load = load
        self._workers: Workers | None = None
        self._astray: Path | None = Path(surroundings.folder)
        with suppress(OSError):  # which only matters to paths that start there
            os.chdir(surroundings.folder)
            self._astray = None
        os.environ.update(surroundings.variables)  # before the libraries that read them

    def __call__(self, row: Mapping[str, Any]) -> dict[str, bytes]:
        """Do the job of the turn `row["id"]`; gives {"answer": an `Answer`, pickled}."""
        handed = self._take(int(row["id"]))
        return {"answer": _pickled(self._answer(handed), handed.job.path)}

    def _answer(self, handed: Handed) -> Answer:
        begin = time.monotonic()
        number, job, times = handed.number, handed.job, handed.times
        try:
            if times > TRIES:
                raise VideoError(
                    f"{printable(job.path)}: its worker died {TRIES} times, as when memory runs "
                    "out; use fewer workers or a machine with more memory, and --retry-failed"
                )
            self._require_visible(job)
        except VidgroundError as error:
            return Answer(number, error, 0.0, times)
        try:
            if self._workers is None:
                self._workers = as_workers(self._load())
        except Exception as error:  # noqa: BLE001 - raised in the process whose run it is
            return Answer(number, error, time.monotonic() - begin, times, ends_run=True)
        (finished,) = self._workers.results(iter((job,)), lambda _: None)
        return Answer(number, finished.outcome, finished.elapsed_s, times)

    def _require_visible(self, job: Job) -> None:
        """Raise VidgroundError if the video that the run has found is not here.

        No VideoError, for nothing is wrong with the video.
        """
        missing = None if job.path.is_absolute() else self._astray
        if missing is None and not job.path.exists():
            missing = job.path
        if missing is not None:
            raise VidgroundError(
                f"{printable(job.path)}: {printable(missing)} is not there on "
                f"{socket.gethostname()}; all machines of a Ray cluster must see the videos "
                "under the same paths (a shared file system)"
            )


def _pickled(answer: Answer, about: Path) -> bytes:
    """The answer as bytes; mistakes of the program as internal errors, with their tracebacks.

    Exceptions of other types than vidground's and the system's may not survive the way.
    """
    error = answer.outcome
    if isinstance(error, Exception) and is_fault(error):
        answer = replace(answer, outcome=as_internal(error, about))
    return pickle.dumps(answer)
