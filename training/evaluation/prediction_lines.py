"""Read and write the files of a folder of predictions: its header and its lines. Loads no model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vidground.errors import FormatError, InputError
from vidground.storage.atomic import write_atomically
from vidground.training.evaluation.questions import ABSENT, Key

SCHEMA_VERSION = 1
HEADER = "run.json"
PREDICTIONS = "predictions.jsonl"
ABSENT_PREDICTIONS = "absent.jsonl"

Line = Mapping[str, Any]
"""One prediction: the fields of its sample, then those of the answer."""

Lines = dict[Key, Line]


def lines_file(folder: Path, *, absent: bool) -> Path:
    """Return the file of the benchmark's predictions, or of those for absent events."""
    return folder / (ABSENT_PREDICTIONS if absent else PREDICTIONS)


def read_header(folder: Path) -> dict[str, Any] | None:
    """Return the header of a folder; None if it has none.

    Raises:
        FormatError: it cannot be read, or is of another kind.
    """
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); overwrite the folder") from error
    if not isinstance(header, dict) or header.get("schema_version") != SCHEMA_VERSION:
        raise FormatError(f"{path}: is not a header of predictions; name another folder")
    return header


def write_header(folder: Path, settings: Mapping[str, Any], asked: Iterable[Key]) -> None:
    """Write the settings that predictions are made with, and the number of questions asked.

    Raises:
        FormatError: the file cannot be written.
    """
    keys = set(asked)
    absent = sum(task == ABSENT for task, _, _ in keys)
    header = {
        "schema_version": SCHEMA_VERSION,
        "settings": dict(settings),
        "asked": {"samples": len(keys) - absent, "absent": absent},
    }
    write_atomically(folder / HEADER, to_json(header, indent=1) + "\n")


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder whose predictions were made with other settings.

    Raises:
        InputError: settings differ, or there are predictions without a header.
        FormatError: the header cannot be read.
    """
    header = read_header(folder)
    if header is None:
        if (folder / PREDICTIONS).exists():
            raise InputError(
                f"{folder}: holds {PREDICTIONS} but no {HEADER} with its settings; name a new "
                "folder, or overwrite this one"
            )
        return
    old = header["settings"]
    names = [n for n in {**old, **settings} if old.get(n) != json.loads(to_json(settings.get(n)))]
    if names:
        changes = ", ".join(f"{n} {old.get(n)!r}, now {settings.get(n)!r}" for n in names)
        raise InputError(
            f"{folder}: was made with other settings ({changes}); name a new folder, or overwrite "
            "this one"
        )


def read_lines(folder: Path, *, absent: bool) -> Lines:
    """Return all complete lines by key; the last one is incomplete if its writer was killed.

    Raises:
        FormatError: the file cannot be read, or a line is damaged.
    """
    path = lines_file(folder, absent=absent)
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); overwrite the folder") from error
    lines = (
        _read_line(line, f"{path}: line {number}")
        for number, line in enumerate(text.split("\n")[:-1], start=1)
    )
    return {key_of(line, absent=absent): line for line in lines}


def write_lines(folder: Path, lines: Iterable[Line], *, absent: bool) -> None:
    """Write lines in place of those that are there; a file that would not change is left alone.

    Raises:
        FormatError: the file cannot be written.
    """
    path = lines_file(folder, absent=absent)
    text = "".join(to_json(line) + "\n" for line in lines)
    if (path.read_text(encoding="utf-8") if path.exists() else "") != text:
        write_atomically(path, text)


def key_of(line: Line, *, absent: bool) -> Key:
    """Return the key of the question that a line answers."""
    return (ABSENT if absent else line["task"], line["source"], line["idx"])


def to_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON in ASCII, so that a line never contains another line break."""
    return json.dumps(value, indent=indent)


def _read_line(text: str, name: str) -> Line:
    remedy = "remove it, or overwrite the folder"
    try:
        line = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{name} is not JSON ({error}); {remedy}") from error
    if not isinstance(line, dict) or not {"task", "source", "idx", "a"} <= line.keys():
        raise FormatError(f"{name} is not a prediction; {remedy}")
    return line
