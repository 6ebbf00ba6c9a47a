"""Records of results that are damaged or made to harm, as a corpus for tests."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from vidground.archive.manifest import MANIFEST

Damage = Callable[[Path], None]
"""Changes the record of a folder, which holds one entry `film` with a result and outputs."""


def statements(*lines: str) -> Damage:
    """Execute SQL on a record."""

    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / MANIFEST)) as database:
            for line in lines:
                database.execute(line)
            database.commit()

    return damage


def _value(column: str, expression: str, table: str = "entries") -> Damage:
    return statements(f"UPDATE {table} SET {column} = {expression}")


def _cut(part: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(data[: int(len(data) * part)])

    return damage


def _overwritten(at: int, data: bytes) -> Damage:
    def damage(folder: Path) -> None:
        content = bytearray((folder / MANIFEST).read_bytes())
        content[at : at + len(data)] = data
        (folder / MANIFEST).write_bytes(content)

    return damage


def _pipe(folder: Path) -> None:
    import os

    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)


def _folder(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
_VIEW = f"CREATE VIEW entries AS {_ENDLESS}"

# Of the whole record: nothing in its folder can be judged.
WHOLE: Mapping[str, Damage] = (
    {
        "no_database": _overwritten(0, b"no database at all"),
        "page_size": _overwritten(16, b"\x00\x07"),
        "format_version": _overwritten(18, b"\xff\xff"),
        "schema_page": _overwritten(100, b"\xff" * 200),
        "cut_in_header": _cut(0.002),
        "cut_to_one_page": _cut(0.2),
        "no_entries": statements("DROP TABLE entries"),
        "no_outputs": statements("DROP TABLE outputs"),
        "no_tables": statements("DROP TABLE entries", "DROP TABLE outputs"),
        "view_for_entries": statements("ALTER TABLE entries RENAME TO old", _VIEW),
        "view_for_outputs": statements(
            "DROP TABLE outputs", "CREATE VIEW outputs AS SELECT * FROM entries"
        ),
        "trigger": statements(
            "CREATE TRIGGER t AFTER UPDATE ON entries BEGIN DELETE FROM outputs; END"
        ),
        "other_columns": statements("DROP TABLE entries", "CREATE TABLE entries (name, value)"),
        "pipe": _pipe,
        "folder": _folder,
    }
    | {
        f"no_column_{column}": statements(f"ALTER TABLE entries DROP COLUMN {column}")
        for column in ("input", "size", "mtime_ns", "sha256", "options", "outcome", "document")
    }
    | {
        f"no_column_outputs_{column}": statements(f"ALTER TABLE outputs DROP COLUMN {column}")
        for column in ("sha256", "size", "shape", "source", "replaced")
    }
)

_DEEP = "replace(hex(zeroblob(50000)), '00', '[')"

# Of one value: the other entries are as before.
VALUES: Mapping[str, Damage] = {
    "options_not_json": _value("options", "'not json'"),
    "options_list": _value("options", "'[1, 2]'"),
    "options_number": _value("options", "'5'"),
    "options_null_text": _value("options", "'null'"),
    "options_blob": _value("options", "x'00ff'"),
    "options_deep": _value("options", _DEEP),
    "options_long_integer": _value(
        "options", "'{\"fps\": 1' || replace(hex(zeroblob(3000)), '0', '9') || '}'"
    ),
    "options_cut": _value("options", "'{\"fps\": 1'"),
    "program_not_json": _value("program", "'x'"),
    "program_list": _value("program", "'[]'"),
    "program_blob": _value("program", "x'ff'"),
    "outcome_other": _value("outcome", "'maybe'"),
    "outcome_blob": _value("outcome", "x'646f6e65'"),
    "input_number": _value("input", "7"),
    "input_text": _value("input", "'film.mp4'"),
    "size_text": _value("size", "'large'"),
    "size_real": _value("size", "1.5"),
    "size_blob": _value("size", "x'01'"),
    "mtime_text": _value("mtime_ns", "'now'"),
    "mtime_real": _value("mtime_ns", "1e300"),
    "sha256_blob": _value("sha256", "x'00'"),
    "sha256_undecodable": _value("sha256", "CAST(x'ff' AS TEXT)"),
    "revision_blob": _value("revision", "x'00'"),
    "error_text": _value("error", "'text'"),
    "events_text": _value("events", "'many'"),
    "events_real": _value("events", "0.5"),
    "video_s_text": _value("video_s", "'long'"),
    "video_s_infinite": _value("video_s", "9e999"),
    "started_at_text": _value("started_at", "'yesterday'"),
    "started_at_infinite": _value("started_at", "9e999"),
    "elapsed_s_blob": _value("elapsed_s", "x'00'"),
    "elapsed_s_infinite": _value("elapsed_s", "-9e999"),
    "source_blob": _value("source", "x'00'"),
    "output_sha256_blob": _value("sha256", "x'00'", "outputs"),
    "output_size_text": _value("size", "'large'", "outputs"),
    "output_shape_blob": _value("shape", "x'00'", "outputs"),
    "output_source_blob": _value("source", "x'00'", "outputs"),
    "output_replaced_blob": _value("replaced", "x'00'", "outputs"),
    "output_format_blob": _value("format", "CAST(format AS BLOB)", "outputs"),
}

# Of the stored result alone.
DOCUMENTS: Mapping[str, Damage] = {
    "document_text": _value("document", "'text'"),
    "document_number": _value("document", "5"),
    "document_not_packed": _value("document", "x'00112233'"),
    "document_empty": _value("document", "x''"),
    "document_cut": _value("document", "substr(document, 1, 20)"),
    "name_absolute": _value("name", "CAST('/etc/passwd' AS BLOB)"),
    "name_outside": _value("name", "CAST('../../outside' AS BLOB)"),
    "name_number": _value("name", "5"),
    "name_nul": _value("name", "x'6100'"),
}
