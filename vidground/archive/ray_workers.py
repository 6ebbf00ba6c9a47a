"""Do the work of a run on Ray: on all GPUs or CPUs of this machine, or of a cluster.

Actors of Ray Data load the model once each and do one video at a time. They receive jobs and return
results. The process of the run (`vidground.archive.run`) decides what is done and writes all files,
so that they do not depend on where the work was done.
"""

import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vidground.archive.outputs import Job
from vidground.archive.ray_actor import Assignment, JobQueueActor, VideoWorker, WorkerEnvironment
from vidground.archive.ray_connection import NextAssignment, connected, first_line, machines
from vidground.archive.workers import Outcomes, Worker
from vidground.errors import InputError, VidgroundError
from vidground.outcomes import Outcome
from vidground.progress import OnProgress
from vidground.results.documents import Result
from vidground.storage.files import printable

CPUS_PER_WORKER = 4
"""CPUs of a worker without a GPU, unless the number of workers is given."""

_JOBS_PER_WORKER = 2  # one in progress and one waiting, so that the worker never waits
_TURNS_PER_WORKER = 500  # videos until workers are restarted; Ray plans all turns in advance
_MAX_WAITING = 100_000  # workers that can wait for a job at the same time
_VARIABLES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """The number of workers, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: int


def share_out(
    machines: Sequence[tuple[int, int]], *, workers: int | None = None, device: str | None = None
) -> Share:
    """Divide machines among workers: one GPU each, or as many CPUs as possible.

    Args:
        machines: (CPUs, GPUs) of each.
        workers: number of workers; None for one per GPU, or one per `CPUS_PER_WORKER` CPUs.
        device: "cpu" or "cuda"; None for GPUs if there are any.

    Raises:
        InputError: there are too few CPUs or GPUs for the workers, or no GPU.
    """
    on_gpus = sum(min(cpus, gpus) for cpus, gpus in machines)
    if device == "cuda" and not on_gpus:
        raise InputError("device is cuda, but Ray has no machine with a GPU; leave --device out")
    if device != "cpu" and on_gpus:
        _require_room(workers, on_gpus, "GPU")
        return Share(workers or on_gpus, 1, 1)
    most = max(cpus for cpus, _ in machines)

    def room(share: int) -> int:
        return sum(cpus // share for cpus, _ in machines)

    if workers is None:
        share = max(1, min(CPUS_PER_WORKER, most))
        workers = room(share)
    _require_room(workers or 1, room(1), "CPU")
    return Share(workers, max(share for share in range(1, most + 1) if room(share) >= workers), 0)


def _require_room(workers: int | None, most: int, what: str) -> None:
    if workers is not None and workers > most:
        raise InputError(
            f"{workers} Ray workers are asked for, but there is room for {most}: each takes a "
            f"{what}; use fewer (--ray-workers)"
        )


class RayWorkers:
    """A `Worker` that does jobs on Ray; close it after the last run.

    A job whose actor dies is done again. A job that kills `MAX_ATTEMPTS` actors fails, and the
    others are done.

    Args:
        load: loads the model and returns the worker; called in each actor, so it is pickled.
        address: of a running cluster ("auto", "host:port"), whose machines have this vidground
            and see the videos under the same paths; None starts Ray on this machine until closed.
        workers: see `share_out`.
        device: see `share_out`.

    Raises:
        InputError: Ray is not installed, or has too few resources for the number of workers.
        VidgroundError: Ray cannot be started or reached.
    """

    def __init__(
        self,
        load: Callable[[], Worker],
        *,
        address: str | None = None,
        workers: int | None = None,
        device: str | None = None,
    ) -> None:
        self._load = load
        with ExitStack() as ending:
            self._ray = ending.enter_context(connected(address))
            self.share = share_out(machines(self._ray), workers=workers, device=device)
            self._ending = ending.pop_all()

    def close(self) -> None:
        """Stop the actors, and Ray if it was started for them."""
        self._ending.close()

    def __call__(self, jobs: Iterator[Job], on_progress: OnProgress) -> Outcomes:  # noqa: ARG002
        """Do the jobs; progress within a video is not reported.

        Raises:
            VidgroundError: Ray ended.
            Exception: whatever loading the model raised.
        """
        more = True
        while more:
            more = yield from self._round(jobs)

    def _round(self, jobs: Iterator[Job]) -> Generator[Outcome[Job, Result], None, bool]:
        """Do jobs until all turns are used up; return whether there may be more jobs."""
        first = next(jobs, None)
        if first is None:
            return False
        turns, assigned = self.share.workers * _TURNS_PER_WORKER, dict[int, Job]()
        rest = zip(range(turns), chain((first,), jobs), strict=False)
        queue = self._start_queue()

        def assign() -> None:
            room = self.share.workers * _JOBS_PER_WORKER - len(assigned)
            for number, job in islice(rest, room):
                assigned[number] = job
                queue.put.remote(number, job)

        assign()
        with closing(self._outcomes(queue, turns)) as outcomes:
            for outcome in outcomes:
                job = assigned.pop(outcome.item.number)
                if outcome.item.attempt > 1:
                    _log.warning("%s: its worker died; it was done again", printable(job.path))
                busy = min(len(assigned) + 1, self.share.workers)
                yield Outcome(job, outcome.result, outcome.elapsed_s / busy)
                assign()
                if not assigned:
                    break
        return True

    def _start_queue(self) -> Any:
        """Return the handle of a `JobQueueActor` in a new process on this machine."""
        here = self._ray.get_runtime_context().get_node_id()
        place = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            here, soft=False
        )
        remote = self._ray.remote(
            num_cpus=0, max_concurrency=_MAX_WAITING, scheduling_strategy=place
        )
        return remote(JobQueueActor).remote()

    def _outcomes(
        self, queue: Any, turns: int
    ) -> Generator[Outcome[Assignment, Result], None, None]:
        """Let actors do the jobs in the queue; raise the error of one that ends the run."""
        data = self._ray.data
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        batches = (
            # Made without read tasks, which would wait for a CPU while the actors hold them all.
            data.from_items([{"id": turn} for turn in range(turns)], override_num_blocks=turns)
            .map(
                VideoWorker,
                fn_constructor_args=(
                    NextAssignment(queue),
                    self._load,
                    WorkerEnvironment(str(Path.cwd()), variables),
                ),
                compute=data.ActorPoolStrategy(
                    size=self.share.workers,
                    max_tasks_in_flight_per_actor=1,  # so that a death affects one job only
                ),
                num_cpus=self.share.cpus,
                num_gpus=self.share.gpus,
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        )
        try:
            with closing(iter(batches)) as tables:
                for table in tables:
                    for row in table.to_pylist():
                        yield _unpickled(row)
        except self._ray.exceptions.RayError as error:
            raise VidgroundError(f"Ray ended the work: {first_line(error)}") from error


def _unpickled(row: Mapping[str, Any]) -> Outcome[Assignment, Result]:
    """Return the outcome in a row of `VideoWorker`; raise its error if that ends the run."""
    outcome: Outcome[Assignment, Result] = pickle.loads(row["outcome"])
    if row["ends_run"] and isinstance(outcome.result, Exception):
        raise outcome.result
    return outcome
