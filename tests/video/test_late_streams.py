"""Files in which streams appear after the beginning: only the chosen one is read, to its end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests.helpers.film_files import make_film
from tests.helpers.video_files import read_index
from vidground.video.frame_sampler import FrameSampler
from vidground.video.video_file import VideoFile

AROUND, BESIDE = 75, 30
"""Frames before and after the second sound track, and beside it."""
STUFFING = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 4000
"""Packets that mean nothing: more bytes than are looked at around the end of a file."""


@pytest.fixture(scope="module")
def late_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transport streams joined: the one in the middle has a sound track more."""
    folder = tmp_path_factory.mktemp("late")
    first = make_film(folder / "first.ts", frames=AROUND)
    second = make_film(folder / "one.mp4", frames=BESIDE)
    two = folder / "two.ts"
    with av.open(str(second)) as reader, av.open(str(two), "w") as writer:
        pictures, sound = reader.streams.video[0], reader.streams.audio[0]
        copies = {
            pictures: [writer.add_stream_from_template(pictures)],
            sound: [writer.add_stream_from_template(sound) for _ in range(2)],
        }
        for packet in reader.demux():
            for copy in copies[packet.stream] if packet.size else ():
                again = av.Packet(bytes(packet))
                again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
                again.is_keyframe, again.stream = packet.is_keyframe, copy
                writer.mux(again)
    joined = folder / "joined.ts"
    joined.write_bytes(first.read_bytes() + two.read_bytes() + STUFFING + first.read_bytes())
    return joined


class Container:
    """A container whose packets pass through a function."""

    def __init__(self, real: Any, change: Callable[[Iterator[Any]], Iterator[Any]]) -> None:
        self.close = real.close
        self._real = real
        self._change = change

    def demux(self, stream: Any) -> Iterator[Any]:
        return self._change(self._real.demux(stream))


def test_a_sound_track_that_appears_is_ignored(late_sound: Path) -> None:
    with VideoFile(late_sound) as file:
        assert len(file._container.streams) == 2  # the third is not known yet
        assert len(list(file._packets())) == 2 * AROUND + BESIDE
        assert file.damaged == 0
    footage = FrameSampler(late_sound, fps=25.0)
    assert footage.info.frames == 2 * AROUND + BESIDE
    assert footage.info.damaged_packets == 0
    assert {read_index(each.frame.rgb()) for each in footage.frames()} == set(range(AROUND))


def test_reading_ends_where_the_library_would_flush_streams_it_does_not_know(
    late_sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV up to 18 fails there or not, depending on what lies in memory by chance."""

    def flushing(packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            yield packet
            if not packet.size:
                raise IndexError("list index out of range")

    with VideoFile(late_sound) as file:
        monkeypatch.setattr(file, "_container", Container(file._container, flushing))
        assert len(list(file._packets())) == 2 * AROUND + BESIDE


def test_empty_packets_of_a_file_do_not_end_it(
    late_sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_empty(packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            empty = av.Packet()
            empty.pts = empty.dts = packet.pts
            yield empty
            yield packet

    with VideoFile(late_sound) as file:
        monkeypatch.setattr(file, "_container", Container(file._container, with_empty))
        assert len(list(file._packets())) == 2 * AROUND + BESIDE
