"""Room in a folder is lent and taken back; what was used least recently makes room."""

import os
import time
from pathlib import Path

import pytest

from vidground.errors import FormatError, InputError
from vidground.storage.bounded_folder import BoundedFolder

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> BoundedFolder:
    return BoundedFolder(tmp_path / "cache", max_bytes=LIMIT)


def put(folder: BoundedFolder, key: str, size: int) -> bool:
    with folder.writing(key, size) as lease:
        if lease is not None:
            lease.path.write_bytes(bytes(size))
    return lease is not None


def keys(folder: BoundedFolder) -> str:
    return "".join(sorted(file.path.stem for file in folder.files()))


def aged(folder: BoundedFolder, keys: str) -> None:
    """Let files have been used in this order, all of them long ago."""
    for age, key in enumerate(keys):
        os.utime(folder.path(key), (1000 + age, 1000 + age))


def test_what_was_used_least_recently_goes_and_no_more_than_must(folder: BoundedFolder) -> None:
    for key in "abc":
        assert put(folder, key, 300)
    aged(folder, "bca")
    folder.used("b")
    assert put(folder, "d", 300)
    assert keys(folder) == "abd"  # c is the oldest now, and makes room enough


def test_files_fill_the_folder_to_the_byte(folder: BoundedFolder) -> None:
    assert put(folder, "a", LIMIT - 400)
    assert put(folder, "b", 400)
    assert keys(folder) == "ab"


def test_what_is_larger_than_the_folder_removes_nothing(folder: BoundedFolder) -> None:
    put(folder, "a", 900)
    assert not put(folder, "b", LIMIT + 1)
    assert keys(folder) == "a"


def test_what_others_write_has_its_room_and_stays(folder: BoundedFolder) -> None:
    with folder.writing("a", 600) as lease:
        assert lease is not None
        assert not put(folder, "b", 600)
        assert put(folder, "c", 300)
        lease.path.write_bytes(bytes(600))
        lease.renew()
    assert keys(folder) == "ac"


def test_room_that_was_not_used_is_there_again(folder: BoundedFolder) -> None:
    with pytest.raises(RuntimeError), folder.writing("a", 800):
        raise RuntimeError
    assert put(folder, "b", 800)
    assert keys(folder) == "b"


def test_what_a_process_left_behind_goes_after_an_hour(folder: BoundedFolder) -> None:
    with folder.writing("a", 800) as lease:
        assert lease is not None
        lease.path.write_bytes(bytes(800))
        assert not put(folder, "b", 500)
        long_ago = time.time() - 3700
        os.utime(lease.path, (long_ago, long_ago))
        os.utime(lease.reservation, (long_ago, long_ago))
        assert put(folder, "b", 500)
        assert not lease.path.exists()
        with pytest.raises(FileNotFoundError):
            lease.renew()
        lease.path.touch()  # so that this block can end


@pytest.mark.parametrize("known", ["", "what a crash left"])
def test_bytes_are_counted_anew_where_the_number_is_lost(folder: BoundedFolder, known: str) -> None:
    put(folder, "a", 400)
    put(folder, "b", 400)
    aged(folder, "ab")
    (folder.folder / "bytes.lock").write_text(known)
    assert put(folder, "c", 400)
    assert keys(folder) == "bc"


def test_clearing_tells_what_it_removed(folder: BoundedFolder) -> None:
    put(folder, "a", 400)
    put(folder, "b", 500)
    assert sorted(file.size_bytes for file in folder.clear()) == [400, 500]
    assert keys(folder) == ""
    assert put(folder, "c", LIMIT)


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 bytes holds nothing"):
        BoundedFolder(tmp_path, max_bytes=0)


def test_a_folder_that_cannot_be_looked_into_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(FormatError, match="Permission denied; choose another folder"):
        BoundedFolder(tmp_path, max_bytes=1)
