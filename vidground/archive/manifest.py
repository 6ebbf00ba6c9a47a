"""The manifest: records of all videos whose results are in a folder.

It is a small hidden SQLite database beside the results. Every change is one transaction, so that a
killed process or a full disk leaves the state before or after it. The database is opened for each
call only: a folder that is moved or removed is noticed, and nothing is shared with child processes.
Knows neither models nor what is done next (`vidground.archive.planning`).
"""

import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from vidground.archive.manifest_rows import (
    COLUMNS,
    ENTRY_COLUMNS,
    OUTPUT_COLUMNS,
    PROGRAM,
    BadValueError,
    Entry,
    Identity,
    OutputRecord,
    packed,
    read_entry,
    read_output,
    unpacked,
)
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
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free space or choose another folder",
    sqlite3.SQLITE_BUSY: "another program holds it; end that program",
    sqlite3.SQLITE_READONLY: "no permission to change it; choose another folder",
    sqlite3.SQLITE_PERM: "no permission; choose another folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at its folder's permissions",
    sqlite3.SQLITE_IOERR: "the disk or its quota does not take it; free space, check the disk",
}
_QUERY_S = 60.0  # a query takes milliseconds, but a hostile file may make it endless
_HEADER_BYTES = 100  # of a database file
_QUERY_STEPS = 100_000  # of SQLite's machine, between two looks at the clock


class RecordError(FormatError):
    """A record of results that is damaged, so that nothing in its folder can be judged."""


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

    def require_whole(self) -> None:
        """Check the tables and their columns, without reading every value.

        Raises:
            RecordError: the file is damaged.
        """
        with self._reading():
            pass

    def entry(self, name: str) -> Entry | None:
        """Return the record of the video whose results are called `name`; None if there is none."""
        with self._reading() as database:
            if database is None:
                return None
            columns = ", ".join(COLUMNS)
            if PROGRAM not in _columns(database, "entries"):
                columns = columns.replace(PROGRAM, f"NULL AS {PROGRAM}")
            query = f"SELECT {columns} FROM entries WHERE name = ?"
            row = database.execute(query, (os.fsencode(name),)).fetchone()
            if row is None:
                return None
            with self._values_of(name):
                return read_entry(row, _outputs(database, os.fsencode(name)))

    def names(self, *, with_result: bool = True) -> list[str]:
        """Return the names of all recorded results, in their order.

        with_result: leave out videos of which there is no result, such as those that failed.
        """
        with self._reading() as database:
            if database is None:
                return []
            condition = " WHERE document IS NOT NULL" if with_result else ""
            names = database.execute(
                f"SELECT name FROM entries{condition} ORDER BY name"
            ).fetchall()
        for (name,) in names:
            if not isinstance(name, bytes):
                raise self._damaged(f"a name is {name!r:.40}, not bytes")
            if name.startswith(b"/") or b".." in name.split(b"/") or b"\0" in name:
                raise self._damaged(f"the name {name!r:.40} leads out of the folder")
        return [os.fsdecode(name) for (name,) in names]

    def document(self, name: str) -> str | None:
        """Return the result called `name` as JSON; None if there is none."""
        with self._reading() as database:
            if database is None:
                return None
            query = "SELECT document FROM entries WHERE name = ?"
            row = database.execute(query, (os.fsencode(name),)).fetchone()
        with self._values_of(name):
            return None if row is None else unpacked(row[0])

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
        columns, places = ", ".join(COLUMNS), ", ".join("?" * (len(values) + 1))
        with self._changing() as database:
            database.execute(
                f"INSERT OR REPLACE INTO entries ({columns}, document) VALUES ({places})",
                (*values, packed(document)),
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
        if not self._is_there():
            yield None
            return
        # Opening a database that a killed process left in the middle of a change repairs it, which
        # needs write permission for the folder.
        mode = "rw" if os.access(self.folder, os.W_OK) else "ro"
        with self._reported(), closing(self._connect(mode)) as database:
            yield database if self._version(database) and self._require_tables(database) else None

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Open the database in a transaction, which an exception rolls back."""
        make_folder(self.folder)
        self._is_there()
        with self._reported(), closing(self._connect("rwc")) as database:
            database.execute("BEGIN IMMEDIATE")
            if not self._version(database):
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {MANIFEST_VERSION}")
            elif self._require_tables(database) and PROGRAM not in _columns(database, "entries"):
                # Versions without this column read and write the others as before.
                database.execute(f"ALTER TABLE entries ADD COLUMN {PROGRAM} TEXT")
            yield database
            database.execute("COMMIT")

    def _connect(self, mode: str) -> sqlite3.Connection:
        # The rollback journal (SQLite's default) leaves a single file, unlike a write-ahead log, so
        # that folders without write permission can be read.
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        database = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
        deadline = time.monotonic() + _QUERY_S + _BUSY_S
        database.set_progress_handler(lambda: time.monotonic() > deadline, _QUERY_STEPS)
        return database

    def _is_there(self) -> bool:
        """Whether there is a file; anything else of this name could block, or is not a record."""
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error(sqlite3.SQLITE_CANTOPEN, str(error)) from error
        if not stat.S_ISREG(mode):
            raise self._damaged("it is not a regular file")
        if (needed := _needed_bytes(self.path)) > (there := self.path.stat().st_size):
            raise self._damaged(f"it ends after {there:,} of {needed:,} bytes")
        return True

    def _require_tables(self, database: sqlite3.Connection) -> bool:
        """Return True; raise RecordError if a table or a column is missing, or there is a trigger.

        A view in the place of a table, or a trigger, would run what the file says.
        """
        kinds = dict(database.execute("SELECT name, type FROM sqlite_master WHERE type != 'index'"))
        for table, needed in (("entries", ENTRY_COLUMNS), ("outputs", {"name", *OUTPUT_COLUMNS})):
            if kinds.get(table) != "table":
                raise self._damaged(f"it has no table {table}")
            if missing := needed - _columns(database, table):
                raise self._damaged(f"its table {table} has no column {min(missing)}")
        if active := [name for name, kind in kinds.items() if kind != "table"]:
            raise self._damaged(f"it holds {active[0]!r:.40}, which is not a table")
        return True

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
        except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its messages
            raise self._damaged("its schema is not text") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            raise self._error(code, str(error)) from error

    @contextmanager
    def _values_of(self, name: str) -> Iterator[None]:
        try:
            yield
        except BadValueError as error:
            raise self._damaged(f"{printable(name)}: {error}") from error

    def _error(self, code: int, text: str = "") -> FormatError:
        code &= 0xFF  # the rest of the bits only refines the code
        reason = _REASONS.get(code)
        if reason is None:
            return self._damaged(text)
        return FormatError(f"{printable(self.path)}: the record of results: {reason}")

    def _damaged(self, what: str) -> RecordError:
        what = " ".join(what.split())  # SQLite quotes the file's own schema
        return RecordError(
            f"{printable(self.path)}: the record of results is damaged ({what}); vidground record "
            f"rebuild {printable(self.folder)} makes it again from the results that lie there"
        )


def canonical(value: Mapping[str, Any]) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _needed_bytes(path: Path) -> int:
    """Return how many bytes a database has by its own header; 0 if that cannot be said.

    SQLite takes a file that was cut within its first page for an empty one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:  # SQLite says why
        return 0
    # While a change is under way, or was interrupted, the journal counts too.
    if not header or Path(f"{path}-journal").exists():
        return 0
    if len(header) < _HEADER_BYTES:
        return _HEADER_BYTES
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return (65536 if page == 1 else page) * pages


def _columns(database: sqlite3.Connection, table: str) -> frozenset[str]:
    rows = database.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return frozenset(name for (name,) in rows)


def _outputs(database: sqlite3.Connection, name: bytes) -> dict[str, OutputRecord]:
    rows = database.execute(
        f"SELECT {', '.join(OUTPUT_COLUMNS)} FROM outputs WHERE name = ?", (name,)
    )
    return dict(map(read_output, rows))


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
