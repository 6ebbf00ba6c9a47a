"""Files that anybody may have written are read within bounds."""

import os
from pathlib import Path

import pytest

from vidground.errors import FormatError, InputError
from vidground.storage.reading import parse_json, read_json, read_json_object, read_text


def test_text_with_and_without_a_mark(tmp_path: Path) -> None:
    for data in (b"\xef\xbb\xbfa\xc3\xa9\n", b"a\xc3\xa9\n"):
        (tmp_path / "a").write_bytes(data)
        assert read_text(tmp_path / "a") == "aé\n"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "is a directory; name a file in it"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "none", "no such file; check the path"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
    ):
        with pytest.raises(FormatError, match=reason):
            read_text(path)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_json(tmp_path / "a.json", most_bytes=6) == [1, 2]
    with pytest.raises(InputError, match="6 bytes; files of this kind are read up to 5 bytes"):
        read_json(tmp_path / "a.json", most_bytes=5, error=InputError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"Expecting value \(line 1, column 1\)"),
        ('{"a":\n 1', r"Expecting .* \(line 2, column 3\)"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "an integer of too many digits"),
    ],
)
def test_json_that_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=f"^x: cannot be read: {reason}"):
        parse_json(text, name="x")


def test_another_value_than_an_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(FormatError, match="holds a list, not a JSON object"):
        read_json_object(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(FormatError, match="byte 7 is not UTF-8"):
        read_json_object(tmp_path / "a.json")
