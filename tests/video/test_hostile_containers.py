"""A file is a file: none makes the decoder open another file or an address."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.video_files import make_video
from vidground.errors import VideoError
from vidground.settings import IsolationSettings
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.reader import VideoReader

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"
SCRIPTS = {
    "m3u8": PLAYLIST,
    "m3u8 with a key": PLAYLIST.replace(
        "#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF'
    ),
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL><SegmentList>'
    '<SegmentURL media="{target}"/></SegmentList></Representation></AdaptationSet></Period></MPD>',
    "IMF": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/'
    '2067-3/2016"><Id>urn:uuid:{target}</Id></CompositionPlaylist>',
    "SMIL": "<smil><body><video src='{target}'/></body></smil>",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{target}\n",
    "RealMedia": "rtsp://127.0.0.1:{port}/a.rm\n{target}\n",
    "ASX": "<asx version='3.0'><entry><ref href='{target}'/></entry></asx>",
    "ASF": "[Reference]\nRef1={target}\n",
    "SUBVIEWER": "VIDEO={target}\n",
}
TARGETS = {
    "a file": "{video}",
    "a file's address": "file:{video}",
    "a part of a file": "subfile,,start,0,end,0,,:{video}",
    "files in a row": "concat:{video}|{video}",
    "an address": "http://127.0.0.1:{port}/a.ts",
    "a raw address": "tcp://127.0.0.1:{port}",
    "a stream": "rtsp://127.0.0.1:{port}/a",
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What must not be shown in place of another file."""
    return make_video(tmp_path_factory.mktemp("secret") / "a.ts", frames=30)


@pytest.fixture
def callers() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what those who have connected to it have asked."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(b"somebody is there")

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_no_video_and_opens_nothing(
    tmp_path: Path, video: Path, callers: tuple[int, list[bytes]], script: str
) -> None:
    port, heard = callers
    suffixes = (".mp4", ".m3u8", ".sdp", ".mpd", ".ram", ".ts", ".mov", "")
    for number, target in enumerate(TARGETS.values()):
        known = {"video": video, "port": port}
        text = SCRIPTS[script].format(target=target.format(**known), port=port)
        path = tmp_path / f"{number}{suffixes[number % len(suffixes)]}"
        path.write_text(text)
        with pytest.raises(VideoError, match="not a video that can be read"):
            VideoReader(path, fps=1.0, image_size=16)
    assert heard == []


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + size]
        at += size


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def changed(content: bytes, path: list[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """The boxes with the content of the one at `path` changed, and all sizes right."""
    return b"".join(
        box(kind, inner)
        if kind != path[0]
        else box(kind, changed(inner, path[1:], change) if path[1:] else change(inner))
        for kind, inner in boxes(content)
    )


def alias(target: Path) -> bytes:
    """A reference to another file, as QuickTime wrote them: its data lie there, not here."""
    folder, name, whole = (str(part).encode() for part in (target.parent, target.name, target))
    entry = bytes(4) + bytes(10) + b"\x01/".ljust(28, b"\0") + bytes(12)
    entry += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + b"\0\1\0\1" + bytes(16)
    for kind, text in ((0, folder), (2, whole)):
        entry += struct.pack(">HH", kind, len(text)) + text + bytes(len(text) % 2)
    entry += b"\xff\xff\0\0"
    return struct.pack(">II", 0, 1) + box(b"alis", entry)


def test_a_film_whose_data_lie_in_another_file_is_not_shown(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mov", frames=30)
    kinds = [kind for kind, _ in boxes(whole.read_bytes())]
    assert kinds.index(b"mdat") < kinds.index(b"moov")  # so that no data move
    place = [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"]
    path = tmp_path / "referring.mov"
    path.write_bytes(changed(whole.read_bytes(), place, lambda _: alias(whole)))
    with pytest.raises(VideoError, match="gives a frame"):
        VideoReader(path, fps=1.0, image_size=16)


def test_a_link_of_the_system_is_followed_only_to_files(tmp_path: Path) -> None:
    decoder = DecoderPool(IsolationSettings(timeout_s=20.0))
    for number, target in enumerate(("/dev/zero", "/dev/stdin", "/proc/self/mem")):
        path = tmp_path / f"{number}.mp4"
        path.symlink_to(target)
        with pytest.raises(VideoError):
            IsolatedReader(decoder, path, fps=1.0, image_size=16)
    decoder.close()
