"""What a record holds of a video, and how the rows of its tables are checked when they are read.

A record is a file that anybody may have changed: every value is of its type, or is refused by name.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal

COLUMNS = (
    *("name", "input", "size", "mtime_ns", "sha256", "revision", "options", "outcome", "error"),
    *("events", "video_s", "started_at", "elapsed_s", "source", "program"),
)
"""Of an entry, without the result itself."""
PROGRAM = "program"
"""A column that records of earlier versions lack."""
ENTRY_COLUMNS = frozenset({*COLUMNS, "document"} - {PROGRAM})
OUTPUT_COLUMNS = ("format", "sha256", "size", "shape", "source", "replaced")
MOST_DOCUMENT_BYTES = 256 << 20
"""Largest result that is unpacked, 256 MiB."""

_NUMBER = (int, float)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "name": (bytes,),
    "input": (bytes,),
    "size": (int,),
    "mtime_ns": (int, NoneType),
    "sha256": (str,),
    "revision": (str, NoneType),
    "options": (str,),
    "outcome": (str,),
    "error": (bytes, NoneType),
    "events": (int, NoneType),
    "video_s": (*_NUMBER, NoneType),
    "started_at": _NUMBER,
    "elapsed_s": _NUMBER,
    "source": (str, NoneType),
    "program": (str, NoneType),
    "format": (str,),
    "shape": (str,),
    "replaced": (str, NoneType),
}
_OUTCOMES = ("done", "failed")
_SHOWN = 40


class BadValueError(ValueError):
    """A value that no vidground has written: which, and why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies one state of a video file.

    Attributes:
        size: in bytes.
        mtime_ns: modification time; None if it proves nothing, because the file had been modified
            moments before it was checked.
        sha256: of the content, in lower-case hex.
    """

    size: int
    mtime_ns: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A file that was written, or was about to be written when the process ended.

    Attributes:
        sha256: of the content.
        size: of the content, in bytes.
        shape: cue settings of subtitles, as JSON.
        source: digest of the result that it was written from.
        replaced: digest of the file that it replaces, which still exists if the process ended in
            between; None for none.
    """

    sha256: str
    size: int
    shape: str
    source: str
    replaced: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """The record of one video.

    Attributes:
        name: of its results, relative to the manifest's folder, without suffix.
        input: path of the video as it was given.
        identity: of the file.
        options: everything that determines the result, as JSON values.
        outcome: "done" or "failed".
        started_at: in seconds since 1970.
        elapsed_s: duration of the work.
        revision: commit of the model.
        error: why it failed.
        events: number of events in the result.
        video_s: duration of the video.
        source: digest of the result as JSON; None without a result.
        outputs: by format.
        program: versions with which it failed, by name; empty if unknown or if it did not fail.
    """

    name: str
    input: str
    identity: Identity
    options: Mapping[str, Any]
    outcome: Literal["done", "failed"]
    started_at: float
    elapsed_s: float
    revision: str | None = None
    error: str | None = None
    events: int | None = None
    video_s: float | None = None
    source: str | None = None
    outputs: Mapping[str, OutputRecord] = field(default_factory=dict)
    program: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished_at(self) -> float:
        """End of the work, in seconds since 1970."""
        return self.started_at + self.elapsed_s


def read_entry(row: tuple[Any, ...], outputs: Mapping[str, OutputRecord]) -> Entry:
    """Return the entry in a row of `COLUMNS`.

    Raises:
        BadValueError: a value is of another type, not JSON, or not a finite number.
    """
    values = _checked(dict(zip(COLUMNS, row, strict=True)))
    if values["outcome"] not in _OUTCOMES:
        raise BadValueError(f"outcome is {_shown(values['outcome'])}, not done or failed")
    program, error = values["program"], values["error"]
    return Entry(
        name=os.fsdecode(values["name"]),
        input=os.fsdecode(values["input"]),
        identity=Identity(values["size"], values["mtime_ns"], values["sha256"]),
        options=_json_object("options", values["options"]),
        outcome=values["outcome"],
        started_at=values["started_at"],
        elapsed_s=values["elapsed_s"],
        revision=values["revision"],
        error=None if error is None else error.decode("utf-8", "backslashreplace"),
        events=values["events"],
        video_s=values["video_s"],
        source=values["source"],
        outputs=outputs,
        program={} if program is None else _json_object("program", program),
    )


def read_output(row: tuple[Any, ...]) -> tuple[str, OutputRecord]:
    """Return the format and the record in a row of `OUTPUT_COLUMNS`.

    Raises:
        BadValueError: a value is of another type.
    """
    values = _checked(dict(zip(OUTPUT_COLUMNS, row, strict=True)))
    return values.pop("format"), OutputRecord(**values)


def packed(document: str | None) -> bytes | None:
    """Return a result's JSON as it is stored."""
    return None if document is None else zlib.compress(document.encode())


def unpacked(document: object) -> str | None:
    """Return what `packed` was given.

    Raises:
        BadValueError: it is something else, or would take more than 256 MiB.
    """
    if document is None:
        return None
    if not isinstance(document, bytes):
        raise BadValueError(f"document is {_shown(document)}, not a compressed result")
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(document, MOST_DOCUMENT_BYTES)
        if unpacker.unconsumed_tail:
            raise BadValueError(f"document has more than {MOST_DOCUMENT_BYTES:,} bytes")
        if not unpacker.eof:
            raise BadValueError("document ends too early")
        return content.decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise BadValueError(f"document is not a compressed result: {error}") from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    for column, value in values.items():
        if not isinstance(value, _TYPES[column]):
            names = " or ".join(_NAMES[kind] for kind in _TYPES[column])
            raise BadValueError(f"{column} is {_shown(value)}; it must be {names}")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadValueError(f"{column} is {value}; it must be finite")
    return values


def _json_object(column: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadValueError(f"{column} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadValueError(f"{column} is {_shown(value)}; it must be a JSON object")
    return value


def _shown(value: object) -> str:
    # Cut first: the text of a large value would itself be large.
    text = repr(value[:_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_NAMES: Mapping[type, str] = {
    bytes: "bytes",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "empty",
}
