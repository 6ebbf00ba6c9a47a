"""What is recorded is read back, and a record that is damaged or full says so."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vidground.archive.manifest import MANIFEST, Manifest
from vidground.archive.manifest_rows import Entry, Identity, OutputRecord
from vidground.errors import FormatError

NAME = os.fsdecode(b"deep/latin\xe9 \n")
ENTRY = Entry(
    name=NAME,
    input=f"in/{NAME}.mp4",
    identity=Identity(9, 1_700_000_000_123_456_789, "ab" * 32),
    options={"fps": 1.0, "prompt": "é\ud800", "window_s": None, "texts": ["a", "b"]},
    outcome="done",
    started_at=1000.25,
    elapsed_s=2.5,
    revision="c0ffee",
    events=3,
    video_s=4.5,
    source="cd" * 32,
    outputs={
        "srt": OutputRecord("01" * 32, 10, "{}", "cd" * 32),
        "json": OutputRecord("02" * 32, 20, '{"a":1}', "cd" * 32, replaced="03" * 32),
    },
)


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "new")
    assert (manifest.entry(NAME), manifest.document(NAME)) == (None, None)
    assert not (tmp_path / "new").exists()  # reading makes nothing
    manifest.record(ENTRY, '{"é": 1}')
    assert manifest.entry(NAME) == ENTRY
    assert manifest.document(NAME) == '{"é": 1}'
    assert ENTRY.finished_at == 1002.75
    assert [path.name for path in (tmp_path / "new").iterdir()] == [MANIFEST]


def test_a_new_entry_takes_the_place_of_the_old_but_keeps_its_outputs_known(
    tmp_path: Path,
) -> None:
    manifest = Manifest(tmp_path)
    manifest.record(ENTRY, "{}")
    failed = replace(ENTRY, outcome="failed", error="no \udcff frame", source=None, outputs={})
    manifest.record(failed)
    kept = manifest.entry(NAME)
    assert kept is not None
    assert (kept.outcome, kept.error) == ("failed", "no \\udcff frame")
    assert kept.outputs == ENTRY.outputs
    assert manifest.document(NAME) is None
    newer = {"srt": OutputRecord("04" * 32, 11, "{}", "ef" * 32)}
    manifest.record_outputs(NAME, newer)
    kept = manifest.entry(NAME)
    assert kept is not None
    assert kept.outputs == ENTRY.outputs | newer


def test_the_time_of_change_is_refreshed_for_the_same_content_only(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.record(ENTRY)
    manifest.refresh(NAME, Identity(9, 5, "ab" * 32))
    manifest.refresh(NAME, Identity(9, 6, "ff" * 32))
    entry = manifest.entry(NAME)
    assert entry is not None
    assert entry.identity == Identity(9, 5, "ab" * 32)


def test_an_empty_file_is_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).touch()  # as a process leaves it that was killed before its first change
    manifest = Manifest(tmp_path)
    assert manifest.entry(NAME) is None
    manifest.record(ENTRY)
    assert manifest.entry(NAME) == ENTRY


def test_a_damaged_record_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"no database at all" * 100)
    for use in (lambda m: m.entry(NAME), lambda m: m.record(ENTRY)):
        with pytest.raises(FormatError, match=r"\.vidground\.sqlite3.* is damaged"):
            use(Manifest(tmp_path))


def test_a_record_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Manifest(tmp_path).record(ENTRY)
    with closing(sqlite3.connect(tmp_path / MANIFEST)) as database:
        database.execute("PRAGMA user_version = 2")
    for use in (lambda m: m.entry(NAME), lambda m: m.record(ENTRY)):
        with pytest.raises(FormatError, match="made by a newer vidground"):
            use(Manifest(tmp_path))


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(tmp_path)
    manifest.record(ENTRY, "{}")
    connect = Manifest._connect

    def cramped(self: Manifest, mode: str) -> sqlite3.Connection:
        database = connect(self, mode)
        database.execute("PRAGMA max_page_count = 5")  # for SQLite a disk that is full
        return database

    monkeypatch.setattr(Manifest, "_connect", cramped)
    with pytest.raises(FormatError, match="the disk is full"):
        manifest.record(replace(ENTRY, events=99, outputs={}), os.urandom(40_000).hex())
    assert manifest.entry(NAME) == ENTRY
    assert manifest.document(NAME) == "{}"


def test_a_folder_without_write_permission_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(tmp_path)
    manifest.record(ENTRY)
    modes = []
    connect = Manifest._connect

    def noted(self: Manifest, mode: str) -> sqlite3.Connection:
        modes.append(mode)
        return connect(self, mode)

    monkeypatch.setattr(Manifest, "_connect", noted)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert manifest.entry(NAME) == ENTRY
    assert modes == ["ro"]


def test_a_change_that_a_killed_process_left_open_is_undone(tmp_path: Path) -> None:
    """A hot journal, as a crash in the middle of a change leaves it, is played back."""
    manifest = Manifest(tmp_path)
    manifest.record(ENTRY, "{}")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(tmp_path / MANIFEST, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")  # so that changed pages go to the disk early
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE entries SET document = ?, events = 99", (os.urandom(200_000),))
        for name in (MANIFEST, f"{MANIFEST}-journal"):
            (crashed / name).write_bytes((tmp_path / name).read_bytes())
        database.execute("ROLLBACK")
    assert (crashed / f"{MANIFEST}-journal").stat().st_size > 0
    assert Manifest(crashed).entry(NAME) == ENTRY
    assert Manifest(crashed).document(NAME) == "{}"
