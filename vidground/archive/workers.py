"""Work on many videos: jobs go in, what came of each comes out, in whatever order they end.

A function from one job to its result is enough for one after the other; whoever does several at a
time, here or on other machines, derives from `Workers`. Knows neither what is done already nor
where results go (`vidground.archive.run`).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from vidground.archive.outputs import Job
from vidground.progress import OnProgress
from vidground.results.documents import Result

Work = Callable[[Job, OnProgress], Result]


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a job: its result, or the error that ended it.

    job: the very object that was given. elapsed_s: how long it was worked on, without waiting; of
    a time in which n were worked on at once, an nth.
    """

    job: Job
    outcome: Result | Exception
    elapsed_s: float


Results = Generator[Finished, None, None]


class Workers(ABC):
    """Whoever works on the jobs of a run."""

    @abstractmethod
    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:
        """Do the jobs; give what came of each as soon as it is known.

        A job that is taken from `jobs` is kept from other runs until it is given back, so take
        no more of them than can soon be worked on; take them in the thread that asks for results.
        Closing the iterator ends the work on what is not finished. Errors of a job are given,
        not raised; what is raised ends the run.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Free what the work needed, once there are no more jobs."""


class OneByOne(Workers):
    """Does one job after the other in the thread that asks for results."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:
        """Do a job each time that a result is asked for."""
        for job in jobs:
            yield finish(self._work, job, on_progress)


class AtOnce(Workers):
    """Does several jobs at once, around one model; called as `Work`, a single one.

    Args:
        work_on: `Engine.work_on` of the engine that `work` calls.
    """

    def __init__(self, work_on: Callable[..., Generator[Any, None, None]], work: Work) -> None:
        self._work_on = work_on
        self._work = work

    def __call__(self, job: Job, on_progress: OnProgress) -> Result:
        """Do one job in this thread."""
        return self._work(job, on_progress)

    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:
        """Start jobs as there is room, and give what came of them as they end."""
        with closing(self._work_on(jobs, lambda job: self._work(job, on_progress))) as landed:
            for one in landed:
                yield Finished(one.item, one.outcome, one.elapsed_s)


class Late(Workers):
    """Workers who are called only when there is a job for them."""

    def __init__(self, load: Callable[[], Workers]) -> None:
        self._load = load

    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:
        """Call them at the first job, and let them do it and the others."""
        for first in jobs:
            yield from self._load().results(chain([first], jobs), on_progress)


def as_workers(work: Work | Workers) -> Workers:
    """A function is called for one job after the other."""
    return work if isinstance(work, Workers) else OneByOne(work)


def finish(work: Work, job: Job, on_progress: OnProgress) -> Finished:
    """Do one job and say what came of it."""
    begin = time.monotonic()
    outcome: Result | Exception
    try:
        outcome = work(job, on_progress)
    except Exception as error:  # noqa: BLE001 - reported or raised by the run
        outcome = error
    return Finished(job, outcome, time.monotonic() - begin)
