"""The far side of a run by Ray, without Ray: the desk, and what workers make of jobs."""

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.result_makers import captions
from vidground.archive.outputs import Job
from vidground.archive.ray_actor import TRIES, Answer, Desk, Handed, Surroundings, VideoWorker
from vidground.archive.workers import OneByOne, Work
from vidground.errors import CheckpointError, InternalError, VideoError, VidgroundError
from vidground.results.documents import Result
from vidground.results.types import Event

pytestmark = pytest.mark.smoke


RESULT = captions(Event(0.0, 1.0, "a goal"))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir("/")
    (tmp_path / "a.mp4").write_bytes(b"content")
    return Job(tmp_path / "a.mp4", {"srt": tmp_path / "a.srt"})


def does(work: Work) -> Any:
    return lambda: work


def answer(load: Any, job: Job, *, times: int = 1, folder: str = "/") -> Answer:
    """What a worker answers to a job, sent as it would be."""
    worker = VideoWorker(lambda turn: Handed(turn + 10, job, times), load, Surroundings(folder, {}))
    found: Answer = pickle.loads(worker({"id": 7})["answer"])
    return found


def test_a_turn_that_comes_again_gets_the_job_that_it_had() -> None:
    async def play() -> list[tuple[int, int, int]]:
        desk, jobs = Desk(), [Job(Path(name), {}) for name in "abc"]
        await desk.put(0, jobs[0])
        await desk.put(1, jobs[1])
        taken = [await desk.take(5), await desk.take(5), await desk.take(2), await desk.take(5)]
        waiting = asyncio.create_task(desk.take(9))
        await asyncio.sleep(0)
        assert not waiting.done()
        await desk.put(2, jobs[2])
        taken.append(await waiting)
        return [
            (handed.number, "abc".index(str(handed.job.path)), handed.times) for handed in taken
        ]

    assert asyncio.run(play()) == [(0, 0, 1), (0, 0, 2), (1, 1, 1), (0, 0, 3), (2, 2, 1)]


def test_a_result_is_sent_with_the_number_of_its_job(job: Job) -> None:
    for load in (does(lambda *_: RESULT), lambda: OneByOne(lambda *_: RESULT)):
        found = answer(load, job, times=2)
        assert (found.number, found.outcome, found.times, found.ends_run) == (17, RESULT, 2, False)
        assert found.elapsed_s >= 0


def test_the_model_is_loaded_once(job: Job) -> None:
    loads: list[int] = []

    def load() -> Work:
        loads.append(1)
        return lambda *_: RESULT

    worker = VideoWorker(lambda turn: Handed(turn, job, 1), load, Surroundings("/", {}))
    for turn in range(3):
        worker({"id": turn})
    assert loads == [1]


def test_an_error_of_a_job_is_data(job: Job) -> None:
    def fail(*_: Any) -> Result:
        raise VideoError("'a.mp4': no frame can be decoded")

    found = answer(does(fail), job)
    assert isinstance(found.outcome, VideoError)
    assert str(found.outcome) == "'a.mp4': no frame can be decoded"
    assert not found.ends_run


def test_a_model_that_cannot_be_loaded_ends_the_run(job: Job) -> None:
    def load() -> Work:
        raise CheckpointError("no such model")

    found = answer(load, job)
    assert isinstance(found.outcome, CheckpointError)
    assert found.ends_run


class LocalError(Exception):
    """Cannot be made again from what is sent of it."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


@pytest.mark.parametrize("error", [KeyError("odd"), LocalError("odd", number=1)])
def test_a_mistake_of_the_program_comes_with_its_traceback(job: Job, error: Exception) -> None:
    def stumble(*_: Any) -> Result:
        raise error

    found = answer(does(stumble), job)
    assert isinstance(found.outcome, InternalError)
    assert f"{type(error).__name__}: " in str(found.outcome)
    assert str(job.path) in str(found.outcome)
    assert "in stumble" in found.outcome.traceback
    assert not found.ends_run


def test_a_mistake_while_the_model_is_loaded_ends_the_run(job: Job) -> None:
    def load() -> Work:
        raise LocalError("odd", number=1)

    found = answer(load, job)
    assert isinstance(found.outcome, InternalError)
    assert "in load" in found.outcome.traceback
    assert found.ends_run


def test_a_video_that_kills_its_worker_again_and_again_is_given_up(job: Job) -> None:
    assert answer(does(lambda *_: RESULT), job, times=TRIES).outcome == RESULT
    found = answer(does(lambda *_: RESULT), job, times=TRIES + 1)
    assert isinstance(found.outcome, VideoError)
    assert f"its worker died {TRIES} times" in str(found.outcome)


def test_a_video_that_the_worker_does_not_see_is_no_bad_video(job: Job) -> None:
    job.path.unlink()
    found = answer(does(lambda *_: RESULT), job)
    assert type(found.outcome) is VidgroundError  # so that it is not recorded as bad
    assert "same paths" in str(found.outcome)


def test_relative_paths_start_where_they_do_for_the_run(job: Job) -> None:
    inner = Job(Path(job.path.name), {})
    assert answer(does(lambda *_: RESULT), inner, folder=str(job.path.parent)).outcome == RESULT
    os.chdir(job.path.parent)  # another file of this name
    found = answer(does(lambda *_: RESULT), inner, folder="/not/here")
    assert "'/not/here' is not there" in str(found.outcome)
