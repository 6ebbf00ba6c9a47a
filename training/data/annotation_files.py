"""Files of annotations: a JSON list, or JSON Lines with a sample on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vidground.errors import FormatError
from vidground.storage.atomic import write_atomically
from vidground.storage.files import printable
from vidground.storage.reading import DATA_SET_BYTES, read_text
from vidground.training.data.annotation_fields import FieldError

LINES_SUFFIXES = (".jsonl", ".ndjson")
"""Lower-case suffixes of JSON Lines; every other file is a JSON list."""


def read_samples(path: Path) -> list[Any]:
    """Return the samples of a file, unchecked; blank lines of JSON Lines are passed over.

    Raises:
        FieldError: the file cannot be read, is not JSON, or holds no samples.
    """
    try:
        text = read_text(path, most_bytes=DATA_SET_BYTES)
    except FormatError as error:
        raise FieldError(str(error).removeprefix(f"{printable(path)}: ")) from error
    samples = _lines(text) if path.suffix.lower() in LINES_SUFFIXES else _list(text)
    if not samples:
        raise FieldError("holds no samples; remove the file, or fill it")
    return samples


def write_samples(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Write samples as the suffix of `path` says; the file appears whole or not at all.

    Raises:
        FormatError: the file cannot be written.
    """
    if path.suffix.lower() in LINES_SUFFIXES:
        text = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    else:
        text = json.dumps(list(samples), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text)


def _list(text: str) -> list[Any]:
    samples = _value(text, "a JSON file")
    if not isinstance(samples, list):
        raise FieldError(f"holds {type(samples).__name__}; annotations are a list of objects")
    return samples


def _lines(text: str) -> list[Any]:
    # Only "\n" ends a line: texts may hold other separators unescaped.
    lines = enumerate(text.split("\n"), start=1)
    return [_value(line, f"JSON in line {number}") for number, line in lines if line.strip()]


def _value(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"is not {what}: {error}") from error
