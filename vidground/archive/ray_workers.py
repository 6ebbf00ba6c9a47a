"""The work of a run done by Ray: on all GPUs or CPUs of this machine, or of a cluster.

Ray Data's actors load the model once each and do one video at a time. Only videos' jobs go to
them and only results come back: what is done already, which run does what, and all files of
results remain with the process that runs (`vidground.archive.run`), so that it makes no difference
to them who did the work.
"""

import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vidground.archive.outputs import Job
from vidground.archive.ray_actor import Answer, Desk, Surroundings, VideoWorker
from vidground.archive.ray_connection import Take, connected, first_line, machines
from vidground.archive.workers import Finished, Results, Work, Workers
from vidground.errors import InputError, VidgroundError
from vidground.progress import OnProgress
from vidground.storage.files import printable

CPUS_PER_WORKER = 4
"""CPUs for a worker without a GPU, unless a number of workers is asked for."""

_JOBS_PER_WORKER = 2  # one that it works on, and one that waits, so that it need not
_TURNS_PER_WORKER = 500  # videos until workers are started anew; Ray plans all turns in advance
_MOST_WORKERS = 100_000  # that can wait for a job at once
_VARIABLES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """How many workers there are, and what each has of its machine."""

    workers: int
    cpus: int
    gpus: int


def share_out(
    machines: Sequence[tuple[int, int]], *, workers: int | None = None, device: str | None = None
) -> Share:
    """Share machines out among workers: a GPU for each, or as many CPUs as there are for it.

    Args:
        machines: (CPUs, GPUs) of each.
        workers: how many; default one per GPU, or one per `CPUS_PER_WORKER` CPUs.
        device: "cpu" or "cuda"; default GPUs if there are any.

    Raises:
        InputError: there is no room for so many, or no GPU.
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


class RayWorkers(Workers):
    """Does jobs by Ray; close it when there are no more.

    A job whose worker dies is done again; one that kills three workers fails, and the rest goes
    on.

    Args:
        load: gives the work; called in each worker, with what it is bound to.
        address: of a running cluster ("auto", "host:port"), whose machines have this vidground
            and see the videos under the same paths; None starts Ray on this machine until closed.
        workers, device: see `share_out`.

    Raises:
        InputError: Ray is not installed, or has no room for so many workers.
        VidgroundError: Ray cannot be started or reached.
    """

    def __init__(
        self,
        load: Callable[[], Work | Workers],
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
        """End the workers, and Ray if it was started for them."""
        self._ending.close()

    def results(self, jobs: Iterator[Job], on_progress: OnProgress) -> Results:  # noqa: ARG002
        """Do the jobs; progress within a video is not told.

        Raises VidgroundError if Ray ends, and any error that comes of loading the model.
        """
        more = True
        while more:
            more = yield from self._round(jobs)

    def _round(self, jobs: Iterator[Job]) -> Generator[Finished, None, bool]:
        """Do jobs until all workers' turns are used up; returns whether there may be more."""
        first = next(jobs, None)
        if first is None:
            return False
        turns, begun = self.share.workers * _TURNS_PER_WORKER, dict[int, Job]()
        left = zip(range(turns), chain((first,), jobs), strict=False)
        desk = self._desk()

        def hand_out() -> None:
            for number, job in islice(left, self.share.workers * _JOBS_PER_WORKER - len(begun)):
                begun[number] = job
                desk.put.remote(number, job)

        hand_out()
        with closing(self._answers(desk, turns)) as answers:
            for answer in answers:
                job = begun.pop(answer.number)
                if answer.ends_run and isinstance(answer.outcome, Exception):
                    raise answer.outcome
                if answer.times > 1:
                    _log.warning("%s: its worker died, it was done again", printable(job.path))
                busy = min(len(begun) + 1, self.share.workers)
                yield Finished(job, answer.outcome, answer.elapsed_s / busy)
                hand_out()
                if not begun:
                    break
        return True

    def _desk(self) -> Any:
        """The desk, in a process beside this one."""
        here = self._ray.get_runtime_context().get_node_id()
        place = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            here, soft=False
        )
        remote = self._ray.remote(
            num_cpus=0, max_concurrency=_MOST_WORKERS, scheduling_strategy=place
        )
        return remote(Desk).remote()

    def _answers(self, desk: Any, turns: int) -> Generator[Answer, None, None]:
        """Let workers do what is on the desk; their answers, as they come."""
        data = self._ray.data
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        batches = (
            # No tasks make these, which would wait for a CPU that workers leave them none of.
            data.from_items([{"id": turn} for turn in range(turns)], override_num_blocks=turns)
            .map(
                VideoWorker,
                fn_constructor_args=(
                    Take(desk),
                    self._load,
                    Surroundings(str(Path.cwd()), variables),
                ),
                compute=data.ActorPoolStrategy(
                    size=self.share.workers,
                    max_tasks_in_flight_per_actor=1,  # with more, a death would strike others too
                ),
                num_cpus=self.share.cpus,
                num_gpus=self.share.gpus,
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        )
        try:
            with closing(iter(batches)) as tables:
                for table in tables:
                    for packed in table.column("answer").to_pylist():
                        yield pickle.loads(packed)
        except self._ray.exceptions.RayError as error:
            raise VidgroundError(f"the work by Ray has ended: {first_line(error)}") from error
