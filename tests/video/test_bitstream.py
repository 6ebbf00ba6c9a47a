"""Coded pictures tell what kind they are; parameter sets are those that encoders write."""

from pathlib import Path

import av
import pytest

from tests.helpers.video_files import make_video
from vidground.video.bitstream import hevc_temporal_layers, holds_idr, is_hidden_vp8


def packets_of(path: Path) -> tuple[bytes, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return stream.codec_context.extradata or b"", packets


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])  # lengths, start codes
def test_idr_pictures_are_found(tmp_path: Path, suffix: str) -> None:
    sets, packets = packets_of(make_video(tmp_path / f"a{suffix}", frames=30, gop=10))
    found = [holds_idr(memoryview(packet), sets) for packet in packets]
    assert [index for index, idr in enumerate(found) if idr] == [0, 10, 20]


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_pictures_of_open_groups_are_no_idr(tmp_path: Path, suffix: str) -> None:
    options = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
    path = make_video(tmp_path / f"a{suffix}", frames=30, options=options)
    sets, packets = packets_of(path)
    found = [holds_idr(memoryview(packet), sets) for packet in packets]
    assert [index for index, idr in enumerate(found) if idr] == [0]


@pytest.mark.parametrize(("last", "length_bytes"), [(0xFC, 1), (0xFD, 2), (0xFF, 4)])
def test_lengths_are_as_long_as_the_parameter_sets_say(last: int, length_bytes: int) -> None:
    sets = b"\x01\x64\x00\x1f" + bytes([last])
    units = [b"\x06\x65\x65", b"\x65\x88"]  # supplemental information, an IDR slice
    packet = b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)
    assert holds_idr(memoryview(packet), sets)
    assert not holds_idr(memoryview(packet[: length_bytes + 3]), sets)


@pytest.mark.parametrize("sets", [b"", b"\x01", b"\x01\x64\x00\x1f\xff"])
@pytest.mark.parametrize("packet", [b"", b"\x00", b"\x00" * 40, b"\xff" * 40])
def test_broken_packets_hold_no_idr(sets: bytes, packet: bytes) -> None:
    assert not holds_idr(memoryview(packet), sets)


@pytest.mark.parametrize(("layers", "expected"), [(0, 1), (2, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_temporal_layers_are_read(tmp_path: Path, layers: int, expected: int, suffix: str) -> None:
    options = {"x265-params": f"log-level=error:pools=1:temporal-layers={layers}"}
    path = make_video(
        tmp_path / f"a{suffix}", codec="libx265", frames=12, bframes=0, options=options
    )
    assert hevc_temporal_layers(packets_of(path)[0]) == expected


def test_unknown_parameter_sets_tell_no_layers() -> None:
    assert hevc_temporal_layers(b"") is None
    assert hevc_temporal_layers(b"\x00\x00\x01\x40\x01") is None


def test_hidden_vp8_pictures() -> None:
    assert is_hidden_vp8(memoryview(b"\x00"))
    assert not is_hidden_vp8(memoryview(b"\x10"))
