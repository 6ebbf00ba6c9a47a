"""Work on many videos: jobs go in, what came of each comes out, in whatever order they end.

A function from one job to its result is enough for one after the other; whoever does several at a
time, here or on other machines, derives from `Workers`. Knows neither what is done already nor
where results go (`vidground.archive`).
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import chain

from vidground.documents import Result
from vidground.outputs import Job
from vidground.progress import OnProgress

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


class Late(Workers):
    """Workers who are called only when there is a job for them."""

    def __init__(self, load: Callable[[], Workers]) -> None:
        self._load = load

    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:
        """Call them at the first job, and let them do it and the others."""
        for first in jobs:
            yield from self._load().results(chain([first], jobs), on_progress)


def finish(work: Work, job: Job, on_progress: OnProgress) -> Finished:
    """Do one job and say what came of it."""
    begin = time.monotonic()
    outcome: Result | Exception
    try:
        outcome = work(job, on_progress)
    except Exception as error:  # noqa: BLE001 - raised again by the run, if it is none of a video
        outcome = error
    return Finished(job, outcome, time.monotonic() - begin)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch on the CPU had no memory left."""
    torch = sys.modules.get("torch")  # a run without torch has no such error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError)
