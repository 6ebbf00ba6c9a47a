"""A folder of predictions: a line for each sample, appended as it is made, and what made them.

`run.json` holds the settings, `predictions.jsonl` the benchmark's samples with the response as
`a`, `absent.jsonl` the queries for what is not in the video. Knows no model.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vidground.errors import FormatError, InputError
from vidground.storage.atomic import make_folder, write_atomically
from vidground.training.evaluation.questions import ABSENT, Key, Question

SCHEMA_VERSION = 1
HEADER = "run.json"
PREDICTIONS = "predictions.jsonl"
ABSENT_PREDICTIONS = "absent.jsonl"

Line = Mapping[str, Any]
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """What a folder holds.

    settings: what the predictions were made with. samples, absent: how many of both the run was
    asked for. predictions, absent_predictions: the lines there are.
    """

    settings: Mapping[str, Any]
    samples: int
    absent: int
    predictions: tuple[Line, ...]
    absent_predictions: tuple[Line, ...]


class PredictionFolder:
    """An open folder that lines are appended to; see `open_folder`."""

    def __init__(self, lines: Mapping[Key, Line], files: Mapping[bool, TextIO]) -> None:
        self._lines = dict(lines)
        self._files = files

    def waiting(self, questions: Iterable[Question]) -> list[Question]:
        """The questions that no line answers yet.

        Raises:
            InputError: a line answers another question of the same number.
        """
        return [question for question in questions if not self._answered(question)]

    def append(self, question: Question, answer: Line) -> None:
        """Write the question's line: its fields, then `answer`.

        Raises:
            FormatError: it cannot be written; the disk is full, for instance.
        """
        line = {**question.fields, **answer}
        file = self._files[question.task == ABSENT]
        try:
            file.write(_json(line) + "\n")
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
    questions: Iterable[Question],
    *,
    overwrite: bool = False,
) -> Iterator[PredictionFolder]:
    """Begin a folder of predictions, or go on with it.

    Lines of samples that failed, and a last line that was cut off, are dropped, so that these
    samples are asked again.

    Args:
        settings: whatever changes a prediction, as JSON has it. questions: all that are asked.
        overwrite: drop what is there.

    Raises:
        InputError: what is there was made with other settings, or another process writes to it.
        FormatError: a file cannot be read or written, or is damaged.
    """
    folder = Path(folder)
    make_folder(folder)
    with _locked(folder):
        paths = {False: folder / PREDICTIONS, True: folder / ABSENT_PREDICTIONS}
        if overwrite:
            for path in (folder / HEADER, *paths.values()):
                path.unlink(missing_ok=True)
        _check_settings(folder, settings)
        kept = {absent: _repair(path, absent=absent) for absent, path in paths.items()}
        _write_header(folder, settings, kept, questions)
        files = {absent: path.open("a", encoding="utf-8") for absent, path in paths.items()}
        try:
            yield PredictionFolder(kept[False] | kept[True], files)
        finally:
            for file in files.values():
                file.close()


def read_folder(folder: str | Path) -> StoredPredictions:
    """Read a folder, also one that a run still writes to.

    Raises:
        FormatError: it is no such folder, or is damaged.
    """
    folder = Path(folder)
    header = _read_header(folder)
    if header is None:
        raise FormatError(f"{folder}: holds no {HEADER}; name a folder of `vidground eval predict`")
    asked = header["asked"]
    return StoredPredictions(
        settings=header["settings"],
        samples=asked["samples"],
        absent=asked["absent"],
        predictions=tuple(_read_lines(folder / PREDICTIONS)),
        absent_predictions=tuple(_read_lines(folder / ABSENT_PREDICTIONS)),
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write; the system frees the lock of one that ends."""
    try:
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise FormatError(f"{folder}: cannot be written to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process writes to it; wait for it, or name another folder"
            ) from error
        yield


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    header = _read_header(folder)
    if header is None:
        if (folder / PREDICTIONS).exists():
            raise InputError(
                f"{folder}: holds {PREDICTIONS} without the {HEADER} that tells what made it; "
                "name a new folder, or overwrite this one"
            )
        return
    old = header["settings"]
    names = [n for n in {**old, **settings} if old.get(n) != json.loads(_json(settings.get(n)))]
    if names:
        changes = ", ".join(f"{n} {old.get(n)!r}, now {settings.get(n)!r}" for n in names)
        raise InputError(
            f"{folder}: was made with other settings ({changes}); name a new folder, or overwrite "
            "this one"
        )


def _read_header(folder: Path) -> dict[str, Any] | None:
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); overwrite the folder") from error
    if not isinstance(header, dict) or header.get("schema_version") != SCHEMA_VERSION:
        raise FormatError(f"{path}: is no header of predictions; name another folder")
    return header


def _write_header(
    folder: Path,
    settings: Mapping[str, Any],
    kept: Mapping[bool, Mapping[Key, Line]],
    questions: Iterable[Question],
) -> None:
    asked = {question.key for question in questions}.union(*kept.values())
    absent = sum(task == ABSENT for task, _, _ in asked)
    header = {
        "schema_version": SCHEMA_VERSION,
        "settings": dict(settings),
        "asked": {"samples": len(asked) - absent, "absent": absent},
    }
    write_atomically(folder / HEADER, _json(header, indent=1) + "\n")


def _repair(path: Path, *, absent: bool) -> dict[Key, Line]:
    """The lines of samples that were answered; the others are removed from the file."""
    lines = _read_lines(path)
    kept = [line for line in lines if "error" not in line]
    text = "".join(_json(line) + "\n" for line in kept)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
    return {
        (ABSENT if absent else line["task"], line["source"], line["idx"]): line for line in kept
    }


def _read_lines(path: Path) -> list[Line]:
    """All whole lines; the last one is not, if the process that wrote it was killed."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); overwrite the folder") from error
    return [
        _read_line(line, f"{path}: line {number}")
        for number, line in enumerate(text.split("\n")[:-1], start=1)
    ]


def _read_line(text: str, name: str) -> Line:
    remedy = "remove it, or overwrite the folder"
    try:
        line = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{name} is no JSON ({error}); {remedy}") from error
    if not isinstance(line, dict) or not {"task", "source", "idx", "a"} <= line.keys():
        raise FormatError(f"{name} is no prediction; {remedy}")
    return line


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent)
