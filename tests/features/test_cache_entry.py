"""Entries are complete or missing, also if processes write, read and remove them at once."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.helpers.result_makers import VIDEO
from vidground.errors import FormatError
from vidground.features.cache_entry import Entry, StoredVideo
from vidground.storage.bounded_folder import BoundedFolder
from vidground.video.info import VideoInfo

ROWS = 24
LIMIT = 96 << 10
FORKED = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Known:
    """Facts about a video."""

    info: VideoInfo = VIDEO
    times_s: tuple[float, ...] = tuple(k * 0.1 for k in range(2 * ROWS))
    warnings: tuple[str, ...] = ("odd times",)


SPANS = [(2 * k, 2 * k + 1) for k in range(ROWS)]


def rows_of(key: str) -> torch.Tensor:
    return torch.full((ROWS, 256), float(int(key, 16)), dtype=torch.float16)


def entry_of(folder: BoundedFolder, key: str, errors: list[Exception]) -> Entry:
    return Entry(
        folder,
        key,
        max_rows=ROWS,
        samples=2 * ROWS,
        metadata={"model": "m", "kind": "k"},
        is_wanted=lambda: True,
        on_error=errors.append,
    )


def store(folder: BoundedFolder, key: str, after: Callable[[], None] = lambda: None) -> None:
    errors: list[Exception] = []
    with closing(entry_of(folder, key, errors)) as entry:
        for part in rows_of(key).split(10):
            entry.append(part)
            after()
        entry.keep(Known(), SPANS, torch.float32)
    assert errors == []


def test_an_entry_is_read_as_written(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    store(folder, "7")
    stored = StoredVideo(folder, ["7"], "there.mp4")
    assert (stored.info.path, stored.info.duration_s) == ("there.mp4", VIDEO.duration_s)
    assert (stored.times_s, stored.warnings) == (Known().times_s, Known().warnings)
    assert (list(stored.spans), stored.dtype) == (SPANS, torch.float32)
    read = [(tensors, spans) for tensors, spans in stored.rows(7)]
    assert [len(spans) for _, spans in read] == [7, 7, 7, 3]
    assert torch.cat([rows for (rows,), _ in read]).equal(rows_of("7"))


def test_several_entries_of_a_video_are_read_together_or_not_at_all(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    store(folder, "1")
    with pytest.raises(FileNotFoundError):
        StoredVideo(folder, ["1", "2"], "a")
    store(folder, "2")
    ((first, second), _), *_ = StoredVideo(folder, ["1", "2"], "a").rows(100)
    assert first.equal(rows_of("1"))
    assert second.equal(rows_of("2"))


@pytest.mark.parametrize("kept", [False, True])
def test_unfinished_and_unwanted_entries_are_removed(tmp_path: Path, kept: bool) -> None:
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    entry = entry_of(folder, "1", [])
    entry._is_wanted = lambda: False
    entry.append(rows_of("1"))
    if kept:
        entry.keep(Known(), SPANS, torch.float32)
    entry.close()
    assert [path.name for path in folder.folder.iterdir()] == ["bytes.lock"]


def test_an_entry_with_too_many_rows_is_removed(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    entry = entry_of(folder, "1", [])
    for _ in range(2):
        entry.append(rows_of("1"))
    entry.keep(Known(), SPANS, torch.float32)
    entry.close()
    assert folder.files() == []


def be_killed(place: Path) -> None:
    counted: list[int] = []

    def die() -> None:
        counted.append(1)
        if len(counted) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    store(BoundedFolder(place, max_bytes=LIMIT), "1", after=die)


def test_a_killed_process_leaves_neither_an_entry_nor_a_lock(tmp_path: Path) -> None:
    process = FORKED.Process(target=be_killed, args=(tmp_path / "c",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    assert folder.files() == []
    with pytest.raises(FileNotFoundError):
        StoredVideo(folder, ["1"], "a")
    store(folder, "1")
    assert StoredVideo(folder, ["1"], "a").rows(ROWS)


def use(place: Path, start: int, told: "multiprocessing.Queue[tuple[int, int]]") -> None:
    """Read or write 8 entries, each twice, in a folder that holds about four."""
    folder = BoundedFolder(place, max_bytes=LIMIT)
    hits = most = 0
    for turn in range(60):
        key = f"{(start + turn // 2 * 3) % 8 + 1:x}"
        try:
            stored = StoredVideo(folder, [key], "a")
        except FileNotFoundError:
            store(folder, key)
        else:
            hits += 1
            parts = [rows for (rows,), _ in stored.rows(5)]
            assert torch.cat(parts).equal(rows_of(key))
        most = max(most, sum(file.size_bytes for file in folder.files()))
    told.put((hits, most))


def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path: Path) -> None:
    told = FORKED.Queue()
    processes = [
        FORKED.Process(target=use, args=(tmp_path / "c", start, told)) for start in (0, 1, 2)
    ]
    for process in processes:
        process.start()
    found = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(hits for hits, _ in found) > 10
    assert max(most for _, most in found) <= LIMIT


def test_an_entry_with_wrong_details_is_damaged(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path / "c", max_bytes=LIMIT)
    errors: list[Exception] = []
    with closing(entry_of(folder, "1", errors)) as entry:
        entry.append(rows_of("1"))
        entry.keep(Known(), SPANS[:-1], torch.float32)
    with pytest.raises(FormatError, match="details do not match"):
        StoredVideo(folder, ["1"], "a")
