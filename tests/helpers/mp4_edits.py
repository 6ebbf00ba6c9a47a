"""Give an MP4 file another edit list, for tests; no program at hand writes more than one part."""

from collections.abc import Sequence
from pathlib import Path

Edit = tuple[float, float | None, int]
"""Duration in seconds, start within the media in seconds (None: nothing is shown), rate 0 or 1."""

_CONTAINERS = (b"moov", b"trak", b"mdia")


def with_edits(source: Path, target: Path, edits: Sequence[Edit]) -> Path:
    """Copy an MP4 of one track, whose header stands at its end, with these edits; return `target`.

    Layout of the boxes: ISO/IEC 14496-12, 8.6.6 (elst), 8.2.2 (mvhd), 8.4.2 (mdhd).
    """
    content = source.read_bytes()
    start = content.rindex(b"moov") - 4
    moov = content[start:]
    assert int.from_bytes(moov[:4], "big") == len(moov), "the header does not stand at the end"
    movie_scale, media_scale = _scale(moov, b"mvhd"), _scale(moov, b"mdhd")
    entries = b"".join(
        round(length_s * movie_scale).to_bytes(4, "big")
        + (-1 if start_s is None else round(start_s * media_scale)).to_bytes(4, "big", signed=True)
        + rate.to_bytes(2, "big")
        + bytes(2)
        for length_s, start_s, rate in edits
    )
    elst = _box(b"elst", bytes(4) + len(edits).to_bytes(4, "big") + entries)
    target.write_bytes(content[:start] + _rebuilt(moov, _box(b"edts", elst)))
    return target


def _scale(moov: bytes, name: bytes) -> int:
    at = moov.index(name) + 4
    assert moov[at] == 0, "version 1 of the box is not read here"
    return int.from_bytes(moov[at + 12 : at + 16], "big")


def _box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def _rebuilt(box: bytes, edts: bytes) -> bytes:
    """Return a box with `edts` in its track, in place of the one that is there."""
    name = box[4:8]
    if name not in _CONTAINERS:
        return box
    parts = []
    at = 8
    while at < len(box):
        size = int.from_bytes(box[at : at + 4], "big")
        part = box[at : at + size]
        if part[4:8] != b"edts":
            parts.append(_rebuilt(part, edts))
        if part[4:8] == b"tkhd":
            parts.append(edts)
        at += size
    return _box(name, b"".join(parts))
