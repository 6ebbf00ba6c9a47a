"""The manifest: records of all videos whose results are in a folder.

It is a small hidden SQLite database beside the results. Every change is one transaction, so that a
killed process or a full disk leaves the state before or after it. The database is opened for each
call only: a folder that is moved or removed is noticed, and nothing is shared with child processes.
Knows neither models nor what is done next (`vidground.archive.planning`).
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidground.errors import FormatError
from vidground.storage.atomic import make_folder
from vidground.storage.files import printable

MANIFEST = ".vidground.sqlite3"
MANIFEST_VERSION = 1

_BUSY_S = 60.0  # maximum wait for the changes of other runs; each takes milliseconds
_SCHEMA = """
CREATE TABLE entries (
    name BLOB PRIMARY KEY,     -- of the results, from the manifest's folder, without their suffix
    input BLOB NOT NULL,       -- path of the video as it was given
    size INTEGER NOT NULL, mtime_ns INTEGER, sha256 TEXT NOT NULL,  -- of the video
    revision TEXT,             -- commit of the model, if it has one
    options TEXT NOT NULL,     -- JSON: all that makes the result, but for the video
    outcome TEXT NOT NULL,     -- done, failed
    error TEXT, events INTEGER, video_s REAL,
    started_at REAL NOT NULL, elapsed_s REAL NOT NULL,              -- seconds since 1970, seconds
    source TEXT,               -- SHA-256 of the result as JSON
    document BLOB,             -- that JSON, compressed with zlib
    program TEXT               -- JSON: versions of the program, of what failed
);
CREATE TABLE outputs (
    name BLOB NOT NULL, format TEXT NOT NULL,
    sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    shape TEXT NOT NULL,       -- JSON: how subtitles were cut
    source TEXT NOT NULL,      -- SHA-256 of the result that it was written from
    replaced TEXT,             -- SHA-256 of the file that it takes the place of
    PRIMARY KEY (name, format)
);
"""
_COLUMNS = (
    "name, input, size, mtime_ns, sha256, revision, options, outcome, error, events, video_s, "
    "started_at, elapsed_s, source, program"
)
_PROGRAM = "program"  # a column that records of earlier versions lack
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free space or choose another folder",
    sqlite3.SQLITE_BUSY: "another program holds it; end that program",
    sqlite3.SQLITE_READONLY: "no permission to change it; choose another folder",
    sqlite3.SQLITE_PERM: "no permission; choose another folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at its folder's permissions",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, what is done then stays as it is",
    sqlite3.SQLITE_NOTADB: "it is damaged; move it away, what is done then stays as it is",
    sqlite3.SQLITE_IOERR: "the disk or its quota does not take it; free space, check the disk",
}


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


class Manifest:
    """The manifest of a folder; its file is created by the first record.

    Every method raises FormatError if the file is damaged, of a newer vidground, or cannot be read
    or written.

    Args:
        folder: with the results.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / MANIFEST

    def entry(self, name: str) -> Entry | None:
        """Return the record of the video whose results are called `name`; None if there is none."""
        with self._reading() as database:
            if database is None:
                return None
            columns = _COLUMNS
            if not _has_program(database):
                columns = columns.replace(_PROGRAM, f"NULL AS {_PROGRAM}")
            query = f"SELECT {columns} FROM entries WHERE name = ?"
            row = database.execute(query, (os.fsencode(name),)).fetchone()
            return None if row is None else _entry(row, _outputs(database, os.fsencode(name)))

    def names(self) -> list[str]:
        """Return the names of all recorded results, in their order."""
        with self._reading() as database:
            if database is None:
                return []
            query = "SELECT name FROM entries WHERE document IS NOT NULL ORDER BY name"
            return [os.fsdecode(name) for (name,) in database.execute(query)]

    def document(self, name: str) -> str | None:
        """Return the result called `name` as JSON; None if there is none."""
        with self._reading() as database:
            if database is None:
                return None
            query = "SELECT document FROM entries WHERE name = ?"
            row = database.execute(query, (os.fsencode(name),)).fetchone()
            if row is None or row[0] is None:
                return None
            try:
                return zlib.decompress(row[0]).decode()
            except (zlib.error, ValueError) as error:
                raise self._error(sqlite3.SQLITE_CORRUPT) from error

    def record(self, entry: Entry, document: str | None = None) -> None:
        """Insert or replace an entry and its outputs.

        Recorded outputs that the entry does not have are kept, so that their files are still
        recognised as vidground's.

        Args:
            entry: to record.
            document: the result as JSON; None if there is none.
        """
        values = (
            os.fsencode(entry.name),
            os.fsencode(entry.input),
            entry.identity.size,
            entry.identity.mtime_ns,
            entry.identity.sha256,
            entry.revision,
            canonical(entry.options),
            entry.outcome,
            None if entry.error is None else entry.error.encode("utf-8", "backslashreplace"),
            entry.events,
            entry.video_s,
            entry.started_at,
            entry.elapsed_s,
            entry.source,
            canonical(entry.program) if entry.program else None,
        )
        packed = None if document is None else zlib.compress(document.encode())
        places = ", ".join("?" * (len(values) + 1))
        with self._changing() as database:
            database.execute(
                f"INSERT OR REPLACE INTO entries ({_COLUMNS}, document) VALUES ({places})",
                (*values, packed),
            )
            _put_outputs(database, entry.name, entry.outputs)

    def record_outputs(self, name: str, outputs: Mapping[str, OutputRecord]) -> None:
        """Insert or replace outputs of an entry."""
        with self._changing() as database:
            _put_outputs(database, name, outputs)

    def refresh(self, name: str, identity: Identity) -> None:
        """Record the modification time of a video whose content was found unchanged."""
        with self._changing() as database:
            database.execute(
                "UPDATE entries SET mtime_ns = ? WHERE name = ? AND sha256 = ?",
                (identity.mtime_ns, os.fsencode(name), identity.sha256),
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Open the database for reading; yield None if there is none, without creating it."""
        if not self.path.exists():
            yield None
            return
        # Opening a database that a killed process left in the middle of a change repairs it, which
        # needs write permission for the folder.
        mode = "rw" if os.access(self.folder, os.W_OK) else "ro"
        with self._reported(), closing(self._connect(mode)) as database:
            yield database if self._version(database) else None

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Open the database in a transaction, which an exception rolls back."""
        make_folder(self.folder)
        with self._reported(), closing(self._connect("rwc")) as database:
            database.execute("BEGIN IMMEDIATE")
            if not self._version(database):
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {MANIFEST_VERSION}")
            elif not _has_program(database):
                # Versions without this column read and write the others as before.
                database.execute(f"ALTER TABLE entries ADD COLUMN {_PROGRAM} TEXT")
            yield database
            database.execute("COMMIT")

    def _connect(self, mode: str) -> sqlite3.Connection:
        # The rollback journal (SQLite's default) leaves a single file, unlike a write-ahead log, so
        # that folders without write permission can be read.
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)

    def _version(self, database: sqlite3.Connection) -> int:
        """Return the version of the schema; 0 for a database without tables."""
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > MANIFEST_VERSION:
            raise FormatError(
                f"{printable(self.path)}: made by a newer vidground (version {version} of the "
                f"manifest, this one knows {MANIFEST_VERSION}); use that vidground"
            )
        return int(version)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            raise self._error(code, str(error)) from error

    def _error(self, code: int, text: str = "") -> FormatError:
        reason = _REASONS.get(code & 0xFF, text)  # the rest of the bits only refines the code
        return FormatError(f"{printable(self.path)}: the record of results: {reason}")


def canonical(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _entry(row: tuple[Any, ...], outputs: Mapping[str, OutputRecord]) -> Entry:
    name, path, size, mtime_ns, sha256, revision, options, outcome, error, *rest = row
    events, video_s, started_at, elapsed_s, source, program = rest
    return Entry(
        name=os.fsdecode(name),
        input=os.fsdecode(path),
        identity=Identity(size, mtime_ns, sha256),
        options=json.loads(options),
        outcome=outcome,
        started_at=started_at,
        elapsed_s=elapsed_s,
        revision=revision,
        error=None if error is None else error.decode(),
        events=events,
        video_s=video_s,
        source=source,
        outputs=outputs,
        program={} if program is None else json.loads(program),
    )


def _has_program(database: sqlite3.Connection) -> bool:
    return any(name == _PROGRAM for _, name, *_ in database.execute("PRAGMA table_info(entries)"))


def _outputs(database: sqlite3.Connection, name: bytes) -> dict[str, OutputRecord]:
    rows: Iterable[tuple[Any, ...]] = database.execute(
        "SELECT format, sha256, size, shape, source, replaced FROM outputs WHERE name = ?", (name,)
    )
    return {format: OutputRecord(*values) for format, *values in rows}


def _put_outputs(
    database: sqlite3.Connection, name: str, outputs: Mapping[str, OutputRecord]
) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO outputs (name, format, sha256, size, shape, source, replaced) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (os.fsencode(name), format, o.sha256, o.size, o.shape, o.source, o.replaced)
            for format, o in outputs.items()
        ],
    )
