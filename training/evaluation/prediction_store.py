"""A folder of predictions: one line per sample, appended as it is made, and the settings used.

`run.json` holds the settings, `predictions.jsonl` the benchmark's samples with the response as
`a`, and `absent.jsonl` the queries for events that are not in the video. Processes that share a
run each write a folder of the same form in `shards/`; these are read as part of the run, and merged
into it by the next process that opens it alone. Loads no model.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vidground.errors import FormatError, InputError
from vidground.storage.atomic import make_folder
from vidground.training.evaluation.prediction_lines import (
    HEADER,
    Line,
    Lines,
    check_settings,
    lines_file,
    read_header,
    read_lines,
    to_json,
    write_header,
    write_lines,
)
from vidground.training.evaluation.questions import ABSENT, Key, Question, by_video
from vidground.training.evaluation.sharding import SHARDS, Shard, shard_folders

_LOCK = ".lock"
_KINDS = (False, True)  # predictions of the benchmark, and for absent events


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """The content of a folder and its shards.

    Attributes:
        settings: what the predictions were made with.
        samples: number of samples that the run was asked for.
        absent: number of queries for absent events that it was asked for.
        predictions: lines of samples that were answered or failed.
        absent_predictions: the same of queries for absent events.
    """

    settings: Mapping[str, Any]
    samples: int
    absent: int
    predictions: tuple[Line, ...]
    absent_predictions: tuple[Line, ...]


class PredictionFolder:
    """An open folder to which lines are appended; see `open_folder` and `open_shard`."""

    def __init__(self, lines: Mapping[Key, Line], files: Mapping[bool, TextIO]) -> None:
        self._lines = dict(lines)
        self._files = files

    def waiting(self, questions: Iterable[Question]) -> list[Question]:
        """Return the questions without an answer.

        Raises:
            InputError: a line answers a different question with the same number.
        """
        return [question for question in questions if not self._answered(question)]

    def append(self, question: Question, answer: Line) -> None:
        """Write the question's line: its fields, then `answer`.

        Raises:
            FormatError: it cannot be written, for instance because the disk is full.
        """
        line = {**question.fields, **answer}
        file = self._files[question.task == ABSENT]
        try:
            file.write(to_json(line) + "\n")
            file.flush()
        except OSError as error:
            raise FormatError(f"{file.name}: cannot be written: {error.strerror}") from error
        self._lines[question.key] = line

    def _answered(self, question: Question) -> bool:
        line = self._lines.get(question.key)
        if line is None:
            return False
        if not question.fields.items() <= line.items():
            task, source, idx = question.key
            raise InputError(
                f"the folder holds an answer to another question or video as {task} {source} idx "
                f"{idx}; the annotations have changed: name a new folder, or overwrite this one"
            )
        return True


@contextmanager
def open_folder(
    folder: str | Path,
    settings: Mapping[str, Any],
    questions: Sequence[Question],
    *,
    overwrite: bool = False,
) -> Iterator[PredictionFolder]:
    """Start a folder of predictions, or continue it; its shards are merged first.

    Lines of failed samples, and an incomplete last line, are removed, so that these samples are
    asked again.

    Args:
        folder: created if it does not exist.
        settings: everything that changes a prediction, as JSON values.
        questions: all that are asked.
        overwrite: remove existing predictions first.

    Raises:
        InputError: the predictions there were made with other settings, or another process is
            writing to the folder.
        FormatError: a file cannot be read or written, or is damaged.
    """
    folder = Path(folder)
    make_folder(folder)
    if overwrite:
        remove_predictions(folder)
    merge_shards(folder, questions, settings)
    with _locked(folder):
        check_settings(folder, settings)
        with _appending(folder, settings, questions, elsewhere={}) as opened:
            yield opened


@contextmanager
def open_shard(
    folder: str | Path, shard: Shard, settings: Mapping[str, Any], questions: Sequence[Question]
) -> Iterator[PredictionFolder]:
    """Start or continue one part of a run; what other parts have answered counts as answered.

    Args:
        folder: of the whole run; created if it does not exist.
        shard: which part.
        settings: as for `open_folder`.
        questions: of the whole run.

    Raises:
        InputError: as for `open_folder`.
        FormatError: as for `open_folder`.
    """
    folder = Path(folder)
    own = shard.folder(folder)
    make_folder(own)
    others = [folder, *(path for path in shard_folders(folder) if path != own)]
    with _locked(own):
        for path in (*others, own):
            check_settings(path, settings)
        elsewhere = {
            key: line
            for path in others
            for absent in _KINDS
            for key, line in read_lines(path, absent=absent).items()
            if "error" not in line
        }
        with _appending(own, settings, questions, elsewhere=elsewhere) as opened:
            yield opened


@contextmanager
def _appending(
    folder: Path,
    settings: Mapping[str, Any],
    questions: Iterable[Question],
    *,
    elsewhere: Mapping[Key, Line],
) -> Iterator[PredictionFolder]:
    kept: Lines = {}
    for absent in _KINDS:
        lines = read_lines(folder, absent=absent)
        answered = {key: line for key, line in lines.items() if "error" not in line}
        write_lines(folder, answered.values(), absent=absent)
        kept |= answered
    write_header(folder, settings, {question.key for question in questions} | kept.keys())
    with ExitStack() as stack:
        files = {
            absent: stack.enter_context(
                lines_file(folder, absent=absent).open("a", encoding="utf-8")
            )
            for absent in _KINDS
        }
        yield PredictionFolder({**elsewhere, **kept}, files)


def read_folder(folder: str | Path) -> StoredPredictions:
    """Return the predictions of a folder and its shards, even while a run is writing to them.

    Raises:
        FormatError: it is not a folder of predictions, is damaged, or its shards were made with
            different settings.
    """
    folder = Path(folder)
    found = [(path, read_header(path)) for path in (folder, *shard_folders(folder))]
    parts = [(path, header) for path, header in found if header is not None]
    if not parts:
        raise FormatError(f"{folder}: holds no {HEADER}; name a folder of `vidground eval predict`")
    headers = [header for _, header in parts]
    for path, header in parts:
        if header["settings"] != headers[0]["settings"]:
            raise FormatError(
                f"{path}: was made with other settings than {parts[0][0]}; remove one of them"
            )
    samples, absent = (
        tuple(_merged([read_lines(path, absent=kind) for path, _ in parts]).values())
        for kind in _KINDS
    )
    return StoredPredictions(
        settings=headers[0]["settings"],
        samples=max(header["asked"]["samples"] for header in headers),
        absent=max(header["asked"]["absent"] for header in headers),
        predictions=samples,
        absent_predictions=absent,
    )


def answered_questions(folder: str | Path, questions: Sequence[Question]) -> int:
    """Return the number of questions with an answer in a folder or its shards.

    Raises:
        FormatError: a file cannot be read, or is damaged.
    """
    places = (Path(folder), *shard_folders(Path(folder)))
    answered = _merged([read_lines(path, absent=kind) for path in places for kind in _KINDS])
    lines = (answered.get(question.key) for question in questions)
    return sum(line is not None and "error" not in line for line in lines)


def merge_shards(
    folder: str | Path, questions: Sequence[Question], settings: Mapping[str, Any] | None = None
) -> None:
    """Move the lines of all shards into the folder, in the order of the questions by video.

    Args:
        folder: of the whole run.
        questions: all that are asked; they give the order.
        settings: refuse shards that were made with others; None takes those of the shards.

    Raises:
        InputError: a process is still writing to a shard, or the settings differ.
        FormatError: a file cannot be read or written, or is damaged.
    """
    folder = Path(folder)
    shards = shard_folders(folder)
    if not shards:
        return
    with ExitStack() as stack:
        for path in (folder, *shards):
            stack.enter_context(_locked(path))
        settings = read_folder(folder).settings if settings is None else settings
        for path in (folder, *shards):
            check_settings(path, settings)
        order = [question.key for asked in by_video(questions).values() for question in asked]
        place = {key: number for number, key in enumerate(order)}
        keys = set(place)
        for absent in _KINDS:
            lines = _merged([read_lines(path, absent=absent) for path in (folder, *shards)])
            ordered = sorted(lines, key=lambda key: place.get(key, -1))  # stable: others first
            write_lines(folder, [lines[key] for key in ordered], absent=absent)
            keys |= lines.keys()
        write_header(folder, settings, keys)
        shutil.rmtree(folder / SHARDS)


def remove_predictions(folder: str | Path) -> None:
    """Remove a folder's predictions and shards; other files in it stay.

    Raises:
        InputError: a process is writing to it.
    """
    folder = Path(folder)
    with ExitStack() as stack:
        for path in (folder, *shard_folders(folder)):
            stack.enter_context(_locked(path))
        for path in (folder / HEADER, *(lines_file(folder, absent=kind) for kind in _KINDS)):
            path.unlink(missing_ok=True)
        if (folder / SHARDS).is_dir():
            shutil.rmtree(folder / SHARDS)


def _merged(parts: Iterable[Lines]) -> Lines:
    """Return the lines of all parts; of two on the same question, one without an error."""
    merged: Lines = {}
    for lines in parts:
        for key, line in lines.items():
            if key not in merged or ("error" in merged[key] and "error" not in line):
                merged[key] = line
    return merged


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write; the system releases the lock of one that ends."""
    try:
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise FormatError(f"{folder}: cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is writing to it; wait for it, or name another folder"
            ) from error
        yield
