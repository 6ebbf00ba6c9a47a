"""The remote side of a run on Ray: the queue that assigns jobs, and the actors that do them.

Plain classes that do not import Ray (`vidground.archive.ray_workers` starts them), so that they
can be followed and tested without it. Errors of a job are returned as data, like its result.
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
from vidground.archive.workers import Worker
from vidground.errors import VideoError, VidgroundError
from vidground.faults import as_internal, is_fault
from vidground.outcomes import Outcome
from vidground.results.documents import Result
from vidground.storage.files import printable

MAX_ATTEMPTS = 3
"""A video is reported as failed once this many actors have died while working on it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job assigned to an actor.

    Attributes:
        number: of the job in its run, counted from 0.
        job: what to do.
        attempt: how many times the job was assigned, this time included.
    """

    number: int
    job: Job
    attempt: int


class JobQueueActor:
    """Assigns jobs to turns, in the order in which the jobs were added.

    A turn that is repeated, because its actor died, is assigned the same job again.
    """

    def __init__(self) -> None:
        self._jobs: deque[tuple[int, Job]] = deque()
        self._assigned: dict[int, tuple[int, Job]] = {}
        self._attempts: Counter[int] = Counter()
        self._changed = asyncio.Condition()

    async def put(self, number: int, job: Job) -> None:
        """Add a job."""
        async with self._changed:
            self._jobs.append((number, job))
            self._changed.notify_all()

    async def take(self, turn: int) -> Assignment:
        """Return the job of a turn; wait until there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: turn in self._assigned or bool(self._jobs))
            if turn not in self._assigned:
                self._assigned[turn] = self._jobs.popleft()
            self._attempts[turn] += 1
            number, job = self._assigned[turn]
            return Assignment(number, job, self._attempts[turn])


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """What an actor inherits from the process that runs.

    Attributes:
        folder: the current folder, which relative paths start from.
        variables: environment variables to set.
    """

    folder: str
    variables: Mapping[str, str]


class VideoWorker:
    """Does the jobs of its turns, one after the other, with a model loaded for the first of them.

    Args:
        take: returns the job of a turn.
        load: loads the model and returns the worker.
        environment: of the process that runs.
    """

    def __init__(
        self,
        take: Callable[[int], Assignment],
        load: Callable[[], Worker],
        environment: WorkerEnvironment,
    ) -> None:
        self._take = take
        self._load = load
        self._worker: Worker | None = None
        self._missing_folder: Path | None = Path(environment.folder)
        with suppress(OSError):  # reported only for jobs whose path is relative to it
            os.chdir(environment.folder)
            self._missing_folder = None
        os.environ.update(environment.variables)  # before the libraries that read them are loaded

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Do the job of a turn.

        Args:
            row: {"id": the turn}.

        Returns:
            {"outcome": a pickled `Outcome[Assignment, Result]`, "ends_run": whether its error
            would occur with every other job too}.
        """
        assignment = self._take(int(row["id"]))
        begin = time.monotonic()
        ends_run = False
        outcome: Outcome[Assignment, Result]
        try:
            self._check(assignment)
        except VidgroundError as error:
            outcome = Outcome(assignment, error, 0.0)
        else:
            try:
                if self._worker is None:
                    self._worker = self._load()
            except Exception as error:  # noqa: BLE001 - raised in the process that runs
                outcome, ends_run = Outcome(assignment, error, time.monotonic() - begin), True
            else:
                (done,) = self._worker(iter((assignment.job,)), lambda _: None)
                outcome = Outcome(assignment, done.result, done.elapsed_s)
        return {"outcome": _pickled(outcome), "ends_run": ends_run}

    def _check(self, assignment: Assignment) -> None:
        """Raise an error for a job that must not be tried here.

        Raises:
            VideoError: too many actors have died with this video.
            VidgroundError: this machine cannot see the video; the video itself may be fine.
        """
        job = assignment.job
        if assignment.attempt > MAX_ATTEMPTS:
            raise VideoError(
                f"{printable(job.path)}: its worker died {MAX_ATTEMPTS} times, possibly because "
                "memory ran out; use fewer workers or a machine with more memory, and "
                "--retry-failed"
            )
        missing = None if job.path.is_absolute() else self._missing_folder
        if missing is None and not job.path.exists():
            missing = job.path
        if missing is not None:
            raise VidgroundError(
                f"{printable(job.path)}: {printable(missing)} does not exist on "
                f"{socket.gethostname()}; all machines of a Ray cluster must see the videos "
                "under the same paths (a shared file system)"
            )


def _pickled(outcome: Outcome[Assignment, Result]) -> bytes:
    """Return the outcome as bytes, with program errors as InternalError with their traceback.

    Exceptions of types that are not vidground's or the system's may not survive pickling.
    """
    error = outcome.result
    if isinstance(error, Exception) and is_fault(error):
        outcome = replace(outcome, result=as_internal(error, outcome.item.job.path))
    return pickle.dumps(outcome)
