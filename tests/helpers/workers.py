"""Workers for runs without a model."""

from collections.abc import Callable, Iterator

from vidground.archive.outputs import Job
from vidground.archive.workers import Outcomes, Worker
from vidground.outcomes import one_by_one
from vidground.progress import OnProgress
from vidground.results.documents import Result


def worker_of(work: Callable[[Job, OnProgress], Result]) -> Worker:
    """A worker that calls a function for one job after the other."""

    def worker(jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:
        return one_by_one(jobs, lambda job: work(job, on_progress))

    return worker
