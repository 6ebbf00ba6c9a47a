"""Read Video-MME's annotations: its Parquet table, or the same rows as a JSON list.

The columns used are `videoID` (name of the video's file), `duration` (short, medium or long),
`domain`, `task_type`, `question`, `options` (four texts that begin with their letters) and `answer`
(a letter). The questions are those that the released evaluation of D2VLM asks, without subtitles.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from vidground.errors import InputError
from vidground.training.data.conversion.readers import read_text
from vidground.training.evaluation.benchmarks.multiple_choice import Choice

SOURCE = "videomme"
_GROUPS = {"duration": "duration", "domain": "domain", "task": "task_type"}


def read_videomme(path: str | Path) -> list[Choice]:
    """Return the questions of a Parquet table or JSON file.

    Raises:
        InputError: the file cannot be read, pyarrow is not installed, or a field is wrong.
    """
    path = Path(path)
    rows = _table(path) if path.suffix == ".parquet" else _json(path)
    if not rows:
        raise InputError(f"{path}: holds no questions")
    return [_choice(row, f"{path}[{index}]") for index, row in enumerate(rows)]


def _table(path: Path) -> list[Any]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(
            f"{path}: reading Parquet needs the package pyarrow ({error}): "
            "pip install 'vidground[eval]'"
        ) from error
    try:
        rows: list[Any] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # what pyarrow raises derives from these
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error
    return rows


def _json(path: Path) -> list[Any]:
    try:
        rows = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: holds a {type(rows).__name__}; needs a list of questions")
    return rows


def _choice(row: Any, name: str) -> Choice:
    fields: Mapping[str, Any] = row if isinstance(row, dict) else {}
    for key in ("videoID", "question", "answer", *_GROUPS.values()):
        if not isinstance(fields.get(key), str) or not fields[key].strip():
            _refuse(name, f"{key} is {fields.get(key)!r}; it must be a text")
    options = fields.get("options")
    if not (_is_texts(options) and 2 <= len(options) <= 26):
        _refuse(name, f"options is {options!r}; it must be a list of 2 to 26 texts")
    right = ord(fields["answer"].strip().upper()[0]) - ord("A")
    if len(fields["answer"].strip()) != 1 or not 0 <= right < len(options):
        _refuse(name, f"answer is {fields['answer']!r}; it must be the letter of an option")
    listed = "\n".join([fields["question"], *options])
    text = (
        "Select the best answer to the following multiple-choice question based on the video. "
        f"Respond with only the letter (A, B, C, or D) of the correct option.\n{listed}\n"
        "The best answer is:"
    )
    groups = {kind: fields[key] for kind, key in _GROUPS.items()}
    return Choice(f"{fields['videoID']}.mp4", text, tuple(options), right, groups)


def _is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _refuse(name: str, reason: str) -> NoReturn:
    raise InputError(f"{name}: {reason}")
