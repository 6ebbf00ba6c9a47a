"""Runs whose work is done by a local Ray of two workers: the same results, and nothing lost."""

import os
import shutil
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from tests.helpers.archive_runs import contents
from tests.helpers.paths import EXAMPLES
from tests.helpers.result_makers import captions
from tests.helpers.workers import worker_of
from vidground.archive.inputs import find_videos
from vidground.archive.outputs import Job, plan_outputs
from vidground.archive.ray_connection import connected
from vidground.archive.ray_workers import RayWorkers, Share, share_out
from vidground.archive.run import run_archive
from vidground.archive.workers import Worker
from vidground.cli.main import cli
from vidground.errors import CheckpointError, InputError, VidgroundError
from vidground.progress import OnProgress
from vidground.results.types import Captions, Event

COMMANDS = {
    "caption": ["caption", "in", "--out", "srt,json"],
    "query": ["query", "in", "--text", "a green triangle grows", "--text", "a red circle"],
}


@pytest.mark.parametrize(
    ("machines", "asked", "share"),
    [
        ([(2, 0)], {}, Share(1, 2, 0)),
        ([(16, 0), (2, 0)], {}, Share(4, 4, 0)),
        ([(16, 0)], {"workers": 3}, Share(3, 5, 0)),
        ([(4, 0), (4, 0), (4, 0)], {"workers": 4}, Share(4, 2, 0)),
        ([(2, 0)], {"workers": 2}, Share(2, 1, 0)),
        ([(32, 8), (8, 0)], {}, Share(8, 1, 1)),
        ([(32, 8)], {"workers": 3}, Share(3, 1, 1)),
        ([(4, 8)], {"device": "cuda"}, Share(4, 1, 1)),
        ([(32, 8)], {"device": "cpu"}, Share(8, 4, 0)),
    ],
)
def test_machines_are_shared_out(
    machines: list[tuple[int, int]], asked: dict[str, Any], share: Share
) -> None:
    assert share_out(machines, **asked) == share


@pytest.mark.parametrize(
    ("machines", "asked", "told"),
    [
        ([(2, 0)], {"workers": 3}, "3 Ray workers are asked for, but there is room for 2"),
        ([(32, 2)], {"workers": 3}, "each takes a GPU"),
        ([(0, 0)], {}, "there is room for 0"),
        ([(8, 0)], {"device": "cuda"}, "no machine with a GPU"),
    ],
)
def test_more_than_there_is_room_for_is_refused(
    machines: list[tuple[int, int]], asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        share_out(machines, **asked)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ray-address", "auto"], "--ray-address has an effect only with --engine ray"),
        (["--ray-workers", "2"], "--ray-workers has an effect only with --engine ray"),
        (["--engine", "ray", "--videos", "2"], "each Ray worker does one video at a time"),
        (["--engine", "ray", "--device", "cuda:1"], "--device cuda or cpu"),
        (["--engine", "ray", "--ray-address", "ray://head:10001"], "host:port"),
    ],
)
def test_options_without_effect_are_refused(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"content")
    result = CliRunner().invoke(cli, ["caption", "a.mp4", "--model", "toy", *arguments])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'vidground\[ray\]'"):
        RayWorkers(lambda: does(None))


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of this machine alone, with room for two workers."""
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_LOG_TO_DRIVER"):
            patch.delenv(name, raising=False)
        with connected(None, cpus=2) as ray:
            yield ray


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with videos in a folder `in`, one of which is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(EXAMPLES / "film_1.mp4", "in/one.mp4")
    shutil.copy(EXAMPLES / "film_2.mp4", "in/deep/two.mp4")
    shutil.copy(EXAMPLES / "film_2.mp4", "in/three.mp4")
    Path("in/bad.mp4").write_bytes(b"no video")
    return tmp_path


def run(command: str, out: str, *arguments: str) -> Result:
    shared = ["--recursive", "--model", "toy", "-o", out]
    return CliRunner().invoke(cli, [*COMMANDS[command], *shared, *arguments])


def without_ray(text: str) -> str:
    """Return what stands before the first message of the Ray that these tests share.

    A thread of that Ray writes messages, some of several lines, to whatever is standard output.
    A Ray that a run starts for itself ends before the run gives standard output back.
    """
    return text.partition("\x1b[33m(raylet)")[0]


def recorded(folder: Path) -> list[tuple[Any, ...]]:
    """What the record says but for times, which differ, and the outputs that it names."""
    names = "name, input, size, sha256, options, outcome, error, events, video_s, source, document"
    with sqlite3.connect(folder / ".vidground.sqlite3") as database:
        entries = database.execute(f"SELECT {names} FROM entries ORDER BY name").fetchall()
        outputs = database.execute("SELECT * FROM outputs ORDER BY name, format").fetchall()
    return [*entries, *outputs]


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("command", COMMANDS)
def test_outputs_record_and_exit_code_are_those_of_the_local_run(
    archive: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several videos would share batches, and other threads add up in another order.
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # as Ray's workers have
    local = run(command, "local", "--videos", "1")
    torch.set_num_threads(threads)
    own = ["--engine", "ray", "--ray-workers", "2", "--cache-dir", "workers' cache"]
    by_ray = run(command, "ray", *own)
    assert (by_ray.exit_code, local.exit_code) == (1, 1), by_ray.stderr
    assert without_ray(by_ray.stdout) == ""
    failed = [line for line in local.stderr.splitlines() if line.startswith("failed: ")]
    assert [line for line in by_ray.stderr.splitlines() if line.startswith("failed: ")] == failed
    assert len(failed) == 1
    assert len(contents(archive / "ray")) == (6 if command == "caption" else 3)
    assert contents(archive / "ray") == contents(archive / "local")
    assert recorded(archive / "ray") == recorded(archive / "local")
    monkeypatch.setattr("vidground.archive.ray_workers.RayWorkers", None)  # no Ray for what is done
    again = run(command, "ray", "--engine", "ray")
    assert "3 skipped, 1 failed" in again.stderr


@pytest.mark.usefixtures("ray")
def test_nobody_but_this_machine_reaches_a_ray_that_was_started() -> None:
    ours = descendants(os.getpid())
    sockets = {link for process in ours for link in open_sockets(process)}
    listening = listening_addresses(sockets)
    assert listening  # else the test has looked in the wrong place
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def does(result: Captions | None, **deeds: Any) -> Worker:
    """A worker that gives `result` after what `deeds` names for a video."""

    def work(job: Job, _: OnProgress) -> Any:
        deeds.get(job.path.stem, lambda: None)()
        return result

    return worker_of(work)


def jobs_in(folder: Path, names: str) -> list[Job]:
    for name in names:
        (folder / f"{name}.mp4").write_bytes(name.encode())
    return plan_outputs(find_videos([folder]).videos, ["srt"], folder=folder / "out")


RESULT = captions(Event(0.0, 1.0, "a goal"))


@pytest.mark.usefixtures("ray")
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, caplog: Any) -> None:
    jobs, result = jobs_in(tmp_path, "abcdef"), RESULT
    at_work, go_on = tmp_path / "at work", tmp_path / "go on"

    def load() -> Worker:
        def work(job: Job, _: Any) -> Captions:
            if job.path.stem == "c" and not go_on.exists():
                at_work.with_suffix(".new").write_text(str(os.getpid()))
                at_work.with_suffix(".new").rename(at_work)
                time.sleep(600)
            return result

        return worker_of(work)

    def kill() -> None:
        while not at_work.exists():
            time.sleep(0.05)
        go_on.touch()
        os.kill(int(at_work.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    workers = RayWorkers(load, workers=2)
    try:
        summary = run_archive(jobs, workers)
    finally:
        workers.close()
    killer.join(60)
    assert (summary.done, summary.failed, summary.unfinished) == (6, 0, 0)
    assert len(contents(tmp_path / "out")) == 6
    assert "its worker died; it was done again" in caplog.text


@pytest.mark.usefixtures("ray")
def test_a_video_that_kills_every_worker_fails_alone(tmp_path: Path) -> None:
    jobs, result = jobs_in(tmp_path, "abc"), RESULT

    def load() -> Worker:
        def work(job: Job, _: Any) -> Captions:
            if job.path.stem == "b":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return worker_of(work)

    workers = RayWorkers(load, workers=2)
    try:
        summary = run_archive(jobs, workers)
    finally:
        workers.close()
    assert (summary.done, summary.failures) == (2, [str(jobs[1].path)])
    (error,) = (report.error for report in summary.reports if report.error)
    assert "its worker died 3 times" in error


@pytest.mark.usefixtures("ray")
def test_a_mistake_of_the_program_fails_alone_and_comes_with_its_traceback(tmp_path: Path) -> None:
    jobs, result = jobs_in(tmp_path, "abc"), RESULT

    def load() -> Worker:
        def work(job: Job, _: Any) -> Captions:
            if job.path.stem == "b":
                raise KeyError("window")
            return result

        return worker_of(work)

    workers = RayWorkers(load, workers=2)
    try:
        summary = run_archive(jobs, workers)
    finally:
        workers.close()
    assert (summary.done, summary.failures) == (2, [str(jobs[1].path)])
    (report,) = (report for report in summary.reports if report.failure == "internal")
    assert report.error is not None
    assert report.error.startswith(f"'{jobs[1].path}': internal error: KeyError: 'window'")
    assert report.traceback is not None
    assert "in work" in report.traceback
    assert run_archive(jobs, does(RESULT)).failed == 0  # it is not recorded as bad


@pytest.mark.usefixtures("ray")
def test_a_worker_may_take_all_cpus(tmp_path: Path) -> None:
    """Nothing of the run is left to wait for one."""
    jobs, result = jobs_in(tmp_path, "ab"), RESULT
    workers = RayWorkers(lambda: worker_of(lambda *_: result), workers=1)
    done: list[int] = []
    running = threading.Thread(
        target=lambda: done.append(run_archive(jobs, workers).done), daemon=True
    )
    running.start()
    running.join(120)
    workers.close()
    assert done == [2]


@pytest.mark.usefixtures("ray")
def test_a_model_that_cannot_be_loaded_ends_the_run(tmp_path: Path) -> None:
    def load() -> Worker:
        raise CheckpointError("no such model")

    workers = RayWorkers(load, workers=2)
    try:
        with pytest.raises(CheckpointError, match="no such model"):
            run_archive(jobs_in(tmp_path, "ab"), workers)
    finally:
        workers.close()


def test_a_cluster_that_is_not_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")

    def init(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore of it")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(VidgroundError) as found:
        RayWorkers(lambda: does(None), address="auto")
    assert str(found.value).startswith(
        "Ray cannot be reached at auto: Could not find any running Ray instance.; check that"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(VidgroundError, match="Connection refused; check that"):
            RayWorkers(lambda: does(None), address=f"127.0.0.1:{taken.getsockname()[1]}")


def descendants(process: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def open_sockets(process: int) -> Iterator[str]:
    for entry in Path(f"/proc/{process}/fd").glob("*"):
        try:
            link = str(entry.readlink())
        except OSError:
            continue
        if link.startswith("socket:["):
            yield link.removeprefix("socket:[").removesuffix("]")


def listening_addresses(sockets: set[str]) -> set[str]:
    """The addresses at which these sockets, named by their inodes, take connections."""
    found = set()
    for table, family, words in (("tcp", socket.AF_INET, 1), ("tcp6", socket.AF_INET6, 4)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                number = bytes.fromhex(fields[1].partition(":")[0])
                parts = [number[at : at + 4][::-1] for at in range(0, 4 * words, 4)]
                found.add(socket.inet_ntop(family, b"".join(parts)))
    return found
