"""Runs that are killed at any instant, and runs at the same time: nothing is lost or done twice."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from tests.helpers import archive_runs
from tests.helpers.archive_runs import Work, contents, jobs_of, make_archive, run
from tests.helpers.paths import ROOT

VIDEOS, KILLS = 30, 15


def start(folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, archive_runs.__file__, str(folder)], stdout=log, env=environment()
        )


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def times_done(folder: Path) -> Counter[str]:
    return Counter((folder / "log").read_text().split())


def undisturbed(folder: Path) -> dict[str, bytes]:
    """What a run without any trouble writes."""
    assert not run(jobs_of(folder / "in", folder / "expected"), Work()).failed
    return contents(folder / "expected")


def test_a_run_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", VIDEOS)
    expected = undisturbed(tmp_path)
    instants = random.Random(5)
    kills = 0
    for _ in range(KILLS):
        (tmp_path / "log").touch()
        before = times_done(tmp_path).total()
        process = start(tmp_path)
        while process.poll() is None and times_done(tmp_path).total() == before:
            time.sleep(0.002)  # until the first video of this run is done
        time.sleep(instants.uniform(0, 0.03))
        process.kill()
        kills += process.wait() == -9
    assert start(tmp_path).wait() == 0
    assert contents(tmp_path / "out") == expected
    done = times_done(tmp_path)
    assert set(done) == {f"{index:02d}.mp4" for index in range(VIDEOS)}
    assert done.total() - VIDEOS <= kills
    assert kills >= KILLS // 2


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    make_archive(tmp_path / "in", 12)
    expected = undisturbed(tmp_path)
    processes = [start(tmp_path), start(tmp_path)]
    assert [process.wait() for process in processes] == [0, 0]
    assert contents(tmp_path / "out") == expected
    assert set(times_done(tmp_path).values()) == {1}


def test_a_run_waits_for_what_another_one_does_and_takes_it_over_if_that_fails(
    tmp_path: Path,
) -> None:
    make_archive(tmp_path / "in", 1)
    jobs = jobs_of(tmp_path / "in", tmp_path / "out")
    begun, end = threading.Event(), threading.Event()

    def hang(_: Path) -> None:
        begun.set()
        assert end.wait(20)

    slow = Work(errors={"00.mp4": KeyboardInterrupt()}, meanwhile=hang)  # type: ignore[dict-item]
    summaries = []
    first = threading.Thread(target=lambda: summaries.append(run(jobs, slow)))
    first.start()
    assert begun.wait(20)
    waited, other = [], Work()

    def on_event(event: object) -> None:
        if type(event).__name__ == "Waiting":
            waited.append(event)
            assert other.done == []
            end.set()

    summary = run(jobs, other, on_event=on_event)
    first.join()
    assert summaries[0].interrupted
    assert (summary.done, len(waited), other.done) == (1, 1, ["00.mp4"])
