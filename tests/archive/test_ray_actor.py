"""The remote side of a run on Ray, without Ray: the job queue, and the outcomes of actors."""

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.result_makers import captions
from tests.helpers.workers import worker_of
from vidground.archive.outputs import Job
from vidground.archive.ray_actor import (
    MAX_ATTEMPTS,
    Assignment,
    JobQueueActor,
    VideoWorker,
    WorkerEnvironment,
)
from vidground.archive.workers import Worker
from vidground.errors import CheckpointError, InternalError, VideoError, VidgroundError
from vidground.outcomes import Outcome
from vidground.results.documents import Result
from vidground.results.types import Event

pytestmark = pytest.mark.smoke


RESULT = captions(Event(0.0, 1.0, "a goal"))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir("/")
    (tmp_path / "a.mp4").write_bytes(b"content")
    return Job(tmp_path / "a.mp4", {"srt": tmp_path / "a.srt"})


def does(work: Any) -> Any:
    return lambda: worker_of(work)


def outcome_of(
    load: Any, job: Job, *, attempt: int = 1, folder: str = "/", ends_run: bool = False
) -> Outcome[Assignment, Result]:
    """The outcome of a job as an actor returns it; checks whether it ends the run."""
    worker = VideoWorker(
        lambda turn: Assignment(turn + 10, job, attempt), load, WorkerEnvironment(folder, {})
    )
    row = worker({"id": 7})
    assert row["ends_run"] is ends_run
    found: Outcome[Assignment, Result] = pickle.loads(row["outcome"])
    return found


def test_a_repeated_turn_is_assigned_the_same_job_again() -> None:
    async def play() -> list[tuple[int, int, int]]:
        queue, jobs = JobQueueActor(), [Job(Path(name), {}) for name in "abc"]
        await queue.put(0, jobs[0])
        await queue.put(1, jobs[1])
        taken = [await queue.take(5), await queue.take(5), await queue.take(2), await queue.take(5)]
        waiting = asyncio.create_task(queue.take(9))
        await asyncio.sleep(0)
        assert not waiting.done()
        await queue.put(2, jobs[2])
        taken.append(await waiting)
        return [(each.number, "abc".index(str(each.job.path)), each.attempt) for each in taken]

    assert asyncio.run(play()) == [(0, 0, 1), (0, 0, 2), (1, 1, 1), (0, 0, 3), (2, 2, 1)]


def test_a_result_is_sent_with_the_number_of_its_job(job: Job) -> None:
    found = outcome_of(does(lambda *_: RESULT), job, attempt=2)
    assert (found.item, found.result) == (Assignment(17, job, 2), RESULT)
    assert found.elapsed_s >= 0


def test_the_model_is_loaded_once(job: Job) -> None:
    loads: list[int] = []

    def load() -> Worker:
        loads.append(1)
        return worker_of(lambda *_: RESULT)

    worker = VideoWorker(lambda turn: Assignment(turn, job, 1), load, WorkerEnvironment("/", {}))
    for turn in range(3):
        worker({"id": turn})
    assert loads == [1]


def test_an_error_of_a_job_is_data(job: Job) -> None:
    def fail(*_: Any) -> Result:
        raise VideoError("'a.mp4': no frame can be decoded")

    found = outcome_of(does(fail), job)
    assert isinstance(found.result, VideoError)
    assert str(found.result) == "'a.mp4': no frame can be decoded"


def test_a_model_that_cannot_be_loaded_ends_the_run(job: Job) -> None:
    def load() -> Worker:
        raise CheckpointError("no such model")

    found = outcome_of(load, job, ends_run=True)
    assert isinstance(found.result, CheckpointError)


class LocalError(Exception):
    """Cannot be made again from what is sent of it."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


@pytest.mark.parametrize("error", [KeyError("odd"), LocalError("odd", number=1)])
def test_a_mistake_of_the_program_comes_with_its_traceback(job: Job, error: Exception) -> None:
    def stumble(*_: Any) -> Result:
        raise error

    found = outcome_of(does(stumble), job)
    assert isinstance(found.result, InternalError)
    assert f"{type(error).__name__}: " in str(found.result)
    assert str(job.path) in str(found.result)
    assert "in stumble" in found.result.traceback


def test_a_mistake_while_the_model_is_loaded_ends_the_run(job: Job) -> None:
    def load() -> Worker:
        raise LocalError("odd", number=1)

    found = outcome_of(load, job, ends_run=True)
    assert isinstance(found.result, InternalError)
    assert "in load" in found.result.traceback


def test_a_video_that_kills_its_worker_again_and_again_is_given_up(job: Job) -> None:
    assert outcome_of(does(lambda *_: RESULT), job, attempt=MAX_ATTEMPTS).result == RESULT
    found = outcome_of(does(lambda *_: RESULT), job, attempt=MAX_ATTEMPTS + 1)
    assert isinstance(found.result, VideoError)
    assert f"its worker died {MAX_ATTEMPTS} times" in str(found.result)


def test_a_video_that_the_worker_does_not_see_is_no_bad_video(job: Job) -> None:
    job.path.unlink()
    found = outcome_of(does(lambda *_: RESULT), job)
    assert type(found.result) is VidgroundError  # so that it is not recorded as bad
    assert "same paths" in str(found.result)


def test_relative_paths_start_where_they_do_for_the_run(job: Job) -> None:
    inner = Job(Path(job.path.name), {})
    assert outcome_of(does(lambda *_: RESULT), inner, folder=str(job.path.parent)).result == RESULT
    os.chdir(job.path.parent)  # another file of this name
    found = outcome_of(does(lambda *_: RESULT), inner, folder="/not/here")
    assert "'/not/here' does not exist" in str(found.result)
