"""Claims exclude each other, and end with whoever holds them."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from vidground.archive.claims import LOCK_FILE, claim
from vidground.errors import FormatError


def test_one_at_a_time_holds_a_claim(tmp_path: Path) -> None:
    with claim(tmp_path, "a") as first:
        with claim(tmp_path, "a") as second, claim(tmp_path, "b") as other:
            assert (first, second, other) == (True, False, True)
        with claim(tmp_path, "a") as second:  # closing the other one did not end the first
            assert not second
    with claim(tmp_path, "a") as again:
        assert again


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom vidground.archive.claims import claim\n"
        "with claim(sys.argv[1], 'a') as mine:\n    print(mine, flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with claim(tmp_path, "a") as mine:
        assert not mine
    process.kill()
    process.communicate()
    with claim(tmp_path, "a") as mine:
        assert mine


def test_the_folder_is_made_and_names_may_be_anything(tmp_path: Path) -> None:
    with claim(tmp_path / "new" / "folder", "a\udcff\n") as mine:
        assert mine
    assert (tmp_path / "new" / "folder" / LOCK_FILE).is_file()


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(FormatError, match="no results can be written here"), claim(tmp_path, "a"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="cannot be written"), claim(tmp_path / "file", "a"):
        pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(FormatError, match="--no-manifest"), claim(tmp_path, "a"):
        pass
