"""Only regular files are opened; hashes are those of the content."""

import hashlib
import os
from pathlib import Path

import pytest

from vidground.errors import VideoError
from vidground.storage.files import VIDEO_SUFFIXES, file_sha256, printable, require_regular_file


def test_hash_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_hash_of_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a directory"):
        file_sha256(tmp_path)


def test_status_of_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert require_regular_file(tmp_path / "a").st_size == 5


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    refused = {"pipe": "not a regular file", "empty": "0 bytes", "none": "no such file"}
    for name, reason in refused.items():
        with pytest.raises(VideoError, match=reason):
            require_regular_file(tmp_path / name)
    with pytest.raises(VideoError, match="not a file name"):
        require_regular_file("nul\0byte")
    with pytest.raises(VideoError, match="cannot be opened"):
        require_regular_file(tmp_path / "empty" / "below")


def test_names_are_printed_on_one_line() -> None:
    assert printable("a b.mp4") == "'a b.mp4'"
    assert printable("été.mp4") == "'été.mp4'"
    assert printable("two\nlines") == r"'two\nlines'"
    assert printable(os.fsdecode(b"bad\xff")) == r"'bad\udcff'"
    assert printable(Path("p.mkv")) == "'p.mkv'"


def test_suffixes_are_lower_case_with_their_dot() -> None:
    assert {".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts"} <= VIDEO_SUFFIXES
    assert all(s.startswith(".") and s == s.lower() for s in VIDEO_SUFFIXES)
    assert not VIDEO_SUFFIXES & {".jpg", ".mp3", ".m4a", ".txt", ".srt", ".m3u8", ".gif"}
