"""Damaged copies of video files: cut off, with bytes changed, with their headers lying.

The same seed gives the same copies.
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Damage = Callable[[bytearray, random.Random], None]

_LIES = (0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_BOXES = (
    *(b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr"),
    *(b"minf", b"stbl", b"stsd", b"avc1", b"avcC", b"stts", b"ctts", b"stss", b"stsc", b"stsz"),
    *(b"stco", b"mdat"),
)
_ELEMENTS = (  # of Matroska: header, segment, info, tracks, video, size, cluster, block
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1"),
    *(b"\x16\x54\xae\x6b", b"\x86", b"\xe0", b"\xb0", b"\xba", b"\x1f\x43\xb6\x75", b"\xa3"),
)
_HEADER_BYTES = 4096


@dataclass(frozen=True)
class DamagedFile:
    """One damaged copy. kind: what was done to it."""

    path: Path
    kind: str


def write_damaged(
    sources: Sequence[Path], folder: Path, *, count: int, seed: int = 0
) -> Iterator[DamagedFile]:
    """Write `count` damaged copies to `folder`, of each source and each kind in turn."""
    kinds = list(KINDS)
    for number in range(count):
        source = sources[number % len(sources)]
        kind = kinds[number // len(sources) % len(kinds)]
        content = bytearray(source.read_bytes())
        KINDS[kind](content, random.Random(f"{seed} {number} {source.name}"))
        path = folder / f"{number:04d}_{kind}_{source.stem}{source.suffix}"
        path.write_bytes(content)
        yield DamagedFile(path, kind)


def _truncate(content: bytearray, rng: random.Random) -> None:
    # As often near the ends as in the middle.
    share = rng.random() ** rng.choice((1, 4, 0.25))
    del content[int(share * len(content)) :]


def _flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(int(10 ** rng.uniform(0, 3.5))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _noise(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        start = rng.randrange(len(content))
        end = min(len(content), start + int(10 ** rng.uniform(0, 4.5)))
        content[start:end] = rng.choice((rng.randbytes, bytes))(end - start)


def _flip_header(content: bytearray, rng: random.Random) -> None:
    """Change bytes at the start, and where a box or an element begins."""
    for _ in range(rng.randint(1, 40)):
        at = min(_header_place(content, rng), len(content) - 1)
        content[at] = rng.choice((rng.randrange(256), *(lie & 0xFF for lie in _LIES)))


def _lie_in_header(content: bytearray, rng: random.Random) -> None:
    """Put extreme numbers where sizes, counts, rates and offsets may stand."""
    for _ in range(rng.randint(1, 6)):
        at = max(0, min(_header_place(content, rng) // 2 * 2, len(content) - 8))
        width, lie = rng.choice(((">I", 0xFFFFFFFF), (">H", 0xFFFF), (">Q", (1 << 64) - 1)))
        struct.pack_into(width, content, at, rng.choice(_LIES) & lie if rng.random() < 0.8 else lie)


def _move_parts(content: bytearray, rng: random.Random) -> None:
    """Drop, repeat or exchange pieces, so that nothing is where the header says."""
    for _ in range(rng.randint(1, 4)):
        start, other = rng.randrange(len(content)), rng.randrange(len(content))
        length = int(10 ** rng.uniform(0, 4.5))
        piece = content[start : start + length]
        if rng.random() < 0.5:
            del content[start : start + length]
        content[other:other] = piece


def _header_place(content: bytearray, rng: random.Random) -> int:
    marks = [*_BOXES, *_ELEMENTS]
    for mark in rng.sample(marks, len(marks)):
        found = content.find(mark)
        if found >= 0 and rng.random() < 0.5:
            return max(0, found + rng.randint(-4, 64))
    return rng.randrange(min(len(content), _HEADER_BYTES))


KINDS: dict[str, Damage] = {
    "truncated": _truncate,
    "bits": _flip_bits,
    "noise": _noise,
    "header": _flip_header,
    "lies": _lie_in_header,
    "moved": _move_parts,
}
