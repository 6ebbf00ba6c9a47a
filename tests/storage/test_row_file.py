"""Files of rows read back as written, a few rows at a time, in little memory."""

import tracemalloc
from pathlib import Path

import pytest

from vidground.errors import FormatError
from vidground.storage.row_file import RowReader, RowWriter, read_metadata


def write(path: Path, *blocks: bytes, width: int = 4) -> Path:
    with RowWriter(path, dtype="F16", shape=(width,)) as writer:
        for block in blocks:
            writer.append(memoryview(block), len(block) // (2 * width))
        writer.finish({"times": [0.1, 1e-9, 7]}, {"model": "m", "kind": "k"})
    return path


def test_rows_and_details_are_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a", bytes(range(24)), bytes(range(24, 32)))
    reader = RowReader(path)
    assert (reader.count, reader.shape, reader.dtype) == (4, (4,), "F16")
    assert reader.details == {"times": [0.1, 1e-9, 7]}
    path.unlink()  # it stays readable
    assert reader.rows(1, 4) == bytes(range(8, 32))
    with pytest.raises(FormatError, match="cannot be read: it ends too early"):
        reader.rows(0, 100)
    reader.close()


def test_metadata_are_read_alone(tmp_path: Path) -> None:
    metadata = read_metadata(write(tmp_path / "a", bytes(8)))
    assert (metadata["model"], metadata["kind"]) == ("m", "k")
    (tmp_path / "b").write_bytes(b"no header")
    with pytest.raises(FormatError, match="damaged"):
        read_metadata(tmp_path / "b")


def test_what_was_not_finished_is_damaged(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "a", dtype="F16", shape=(4,))
    writer.append(memoryview(bytes(8)), 1)
    writer.close()
    with pytest.raises(FormatError, match="its header was not written by vidground"):
        RowReader(tmp_path / "a")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    block = bytes(1 << 20)
    path = write(tmp_path / "a", *[block] * 32, width=1 << 10)
    tracemalloc.start()
    try:
        reader = RowReader(path)
        for start in range(0, reader.count, 64):
            assert len(reader.rows(start, start + 64)) == 1 << 17
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        reader.close()
    assert peak < 4 << 20
