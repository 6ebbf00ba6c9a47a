"""Answer a benchmark's questions in several processes, on one or several GPUs.

Each process loads the model and answers its own shard; the shards are merged at the end. Answers
are stored as they are made, so a run that is interrupted in any process continues when the same
command is given again, with any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from vidground.errors import InputError, VidgroundError
from vidground.training.evaluation.prediction_store import merge_shards, open_shard, read_folder
from vidground.training.evaluation.predictor import OnFailure, Predictor, predict
from vidground.training.evaluation.questions import Question
from vidground.training.evaluation.sharding import Shard, shard_folders

_LOOK_S = 1.0  # between two counts of the answers
_GRACE_S = 10.0  # for a process to end after it was asked to


@dataclass(frozen=True, slots=True)
class _Work:
    """What one process needs; it is sent to it."""

    shard: Shard
    model: str
    options: Mapping[str, Any]
    threads: int
    questions: Sequence[Question]
    videos: Path
    folder: Path


def predict_in_processes(
    model: str,
    options: Mapping[str, Any],
    questions: Sequence[Question],
    videos: str | Path,
    folder: str | Path,
    *,
    processes: int,
    on_progress: Callable[[int, int], None] | None = None,
    on_failure: OnFailure | None = None,
) -> int:
    """Answer all questions that `folder` has no answer to yet, each process a part of the videos.

    Args:
        model: a known name, a folder or a hub id.
        options: keyword arguments of `Predictor`. A device "cuda" or None uses all GPUs in turn;
            on the CPU the cores are divided among the processes.
        questions: all questions of the run.
        videos: the folder that the questions' videos are relative to.
        folder: of the predictions.
        processes: 1 or more.
        on_progress: called about once a second with the number answered and the number of all.
        on_failure: called once per video and reason, when its process has ended.

    Returns:
        The number of questions that got no answer.

    Raises:
        InputError: `processes` is below 1, or a folder is in use or was made with other settings.
        VidgroundError: a process reported an error, or ended unexpectedly.
    """
    if processes < 1:
        raise InputError(f"processes is {processes}; it must be at least 1")
    folder = Path(folder)
    devices = _devices(options.get("device"), processes)
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    works = [
        _Work(
            Shard(number, processes),
            model,
            {**options, "device": device},
            threads,
            questions,
            Path(videos),
            folder,
        )
        for number, device in enumerate(devices, start=1)
    ]
    merge_shards(folder, questions)  # of an earlier run, perhaps with another number of processes
    failures = 0
    with _started(works) as waiting:
        while waiting:
            ready = wait(list(waiting), timeout=_LOOK_S)
            for connection in [one for one in waiting if one in ready]:
                failures += _report(connection, waiting.pop(connection), on_failure)
            if on_progress is not None:
                on_progress(_answered(folder, questions), len(questions))
    merge_shards(folder, questions)
    return failures


def _devices(device: str | None, processes: int) -> list[str | None]:
    """Return the device of each process; GPUs are taken in turn."""
    cards = torch.cuda.device_count() if device in (None, "cuda") else 0
    return [f"cuda:{number % cards}" if cards else device for number in range(processes)]


@contextmanager
def _started(works: Sequence[_Work]) -> Iterator[dict[Connection, BaseProcess]]:
    """Start a process per work and yield them by the connection that reports their end."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    running: dict[Connection, BaseProcess] = {}
    try:
        for work in works:
            ours, theirs = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(target=_answer_shard, args=(work, theirs))
            process.start()
            theirs.close()  # so that the end of the process ends the connection
            running[ours] = process
        yield dict(running)
    finally:
        for process in running.values():
            process.terminate()
        for connection, process in running.items():
            process.join(_GRACE_S)
            connection.close()


def _answer_shard(work: _Work, connection: Connection) -> None:
    """Answer one shard and report (failed questions, failures by video, error)."""
    torch.set_num_threads(work.threads)
    failures: list[tuple[str, str]] = []
    failed, error = 0, None
    try:
        predictor = Predictor(work.model, **work.options)
        with open_shard(work.folder, work.shard, predictor.settings, work.questions) as opened:
            failed = predict(
                predictor,
                work.shard.take(work.questions),
                work.videos,
                opened,
                on_failure=lambda video, reason: failures.append((video, reason)),
            )
    except VidgroundError as raised:
        error = str(raised)
    connection.send((failed, failures, error))
    connection.close()


def _report(connection: Connection, process: BaseProcess, on_failure: OnFailure | None) -> int:
    """Pass on what a process reported; return its number of failed questions."""
    try:
        failed, failures, error = connection.recv()
    except EOFError:
        process.join(_GRACE_S)
        raise VidgroundError(
            f"a process of the evaluation ended unexpectedly (exit code {process.exitcode}), "
            "perhaps for lack of memory; its answers are kept: give the same command again, or "
            "use fewer processes"
        ) from None
    if error is not None:
        raise VidgroundError(error)
    for video, reason in failures:
        if on_failure is not None:
            on_failure(video, reason)
    return int(failed)


def _answered(folder: Path, questions: Sequence[Question]) -> int:
    """Return the number of questions with a line, answered or failed."""
    if not shard_folders(folder):
        return 0
    try:
        stored = read_folder(folder)
    except VidgroundError:  # no process has written its header yet
        return 0
    return min(len(stored.predictions) + len(stored.absent_predictions), len(questions))
