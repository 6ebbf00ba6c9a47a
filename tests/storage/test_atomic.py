"""Files appear whole or not at all, with the permissions and links a plain write would leave."""

import errno
import os
import stat
from pathlib import Path

import pytest

from vidground.errors import FormatError
from vidground.storage.atomic import atomic_path, make_folder, open_to_umask, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "é\r\n\u2028")
    write_atomically(str(tmp_path / "b.bin"), b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n\xe2\x80\xa8"
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.txt", "b.bin"]


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with target.open() as reader:
        write_atomically(target, "new")
        assert reader.read() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(interruption), atomic_path(target) as temporary:  # noqa: PT012 - the block is what is tested
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise interruption
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_lent_file_is_hidden_unique_beside_the_target_and_keeps_the_suffix(
    tmp_path: Path,
) -> None:
    target = tmp_path / "a.mp4"
    with atomic_path(target) as one, atomic_path(target) as two:
        assert one != two
        assert one.parent == target.parent
        assert one.name.startswith(".vidground-")
        assert one.suffix == ".mp4"
        assert not target.exists()
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert target.read_bytes() == b"1"  # the outer block ended last


def test_the_longest_name_that_a_folder_takes_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".srt")
    write_atomically(target, "x")
    assert target.read_text() == "x"


def test_an_error_of_the_block_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="not ours"), atomic_path(tmp_path / "a"):
        raise ConnectionError("not ours")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission; choose another folder"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("step", ["open", "fsync"])
def test_what_the_system_refuses_is_reported_and_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, reason: str
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, refuse)
        with pytest.raises(FormatError, match=f"a.txt: cannot be written: {reason}"):
            write_atomically(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_that_fills_up_while_writing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, data: bytes) -> int:
        with path.open("wb") as half:
            half.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(FormatError, match="the disk is full; free space"):
        write_atomically(tmp_path / "a.txt", "new")
    assert names(tmp_path) == []


def test_paths_that_cannot_be_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in [
        (tmp_path / "no" / "a.txt", "the folder does not exist; create it"),
        (tmp_path / "file" / "a.txt", "a part of its folder is a file"),
        (tmp_path, "it is a folder; add a file name"),
        (tmp_path / ("n" * 256), "the name is too long"),
        (tmp_path / "a\x00b", "null"),
        (Path("/dev/null"), "it is a device or a pipe"),
    ]:
        with pytest.raises(FormatError, match=reason):
            write_atomically(path, "x")
    assert names(tmp_path) == ["file"]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FormatError, match="no permission; choose another folder"):
        write_atomically(tmp_path / "a.txt", "x")


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="surrogates not allowed"):
        write_atomically(tmp_path / "a.txt", "\ud800")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_file_that_the_writer_makes_private_is_opened(
    tmp_path: Path, umask: int, mode: int
) -> None:
    private = tmp_path / "private"
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a.bin") as temporary:
            private.touch(mode=0o600)
            private.replace(temporary)  # as safetensors does
        private.touch(mode=0o600)
        open_to_umask([private])
    finally:
        os.umask(before)
    assert names(tmp_path) == ["a.bin", "private"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    target.chmod(0o664)
    write_atomically(target, "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o664
    assert target.read_text() == "new"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "far" / "b.txt")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "far" / "b.txt").read_text() == "new"
    assert names(tmp_path / "far") == ["b.txt"]


def test_folders_are_made_where_no_file_is_in_the_way(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="a file has its name"):
        make_folder(tmp_path / "file")


def test_missing_parent_folders_are_created_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with pytest.raises(FormatError, match="the folder does not exist"):
        write_atomically(path, "text")
    assert not (tmp_path / "a").exists()
    write_atomically(path, "text", parents=True)
    assert path.read_text() == "text"
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="is a file"):
        write_atomically(tmp_path / "file" / "c.txt", "text", parents=True)
