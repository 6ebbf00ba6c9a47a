"""Timecode and sound as the container states them, and as results keep them."""

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from tests.helpers.result_makers import captions
from tests.helpers.video_files import make_video, read_index
from vidground.errors import VideoError
from vidground.media.ffmpeg import find_program
from vidground.results.formats import render
from vidground.results.types import Captions, Event
from vidground.settings import IsolationSettings
from vidground.video.frame_sampler import FrameSampler
from vidground.video.info import VideoInfo
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.reader import VideoReader


def make(path: Path, rate: str, *options: str, sound: int = 0) -> VideoInfo:
    """Make two seconds of video with `sound` channels of sound, and read what is known of it."""
    command = [find_program().path, "-v", "error", "-f", "lavfi"]
    command += ["-i", f"testsrc=size=320x240:rate={rate}:duration=2"]
    if sound:
        layout = {1: "mono", 2: "stereo"}[sound]
        command += ["-f", "lavfi", "-i", f"anullsrc=r=48000:cl={layout}", "-shortest"]
    subprocess.run([*command, *options, str(path)], check=True)
    return VideoReader(path, fps=1.0, image_size=48).info


@pytest.mark.parametrize(
    ("name", "rate", "timecode"),
    [
        ("a.mov", "25", "14:09:42:00"),
        ("a.mp4", "25", "14:09:42:07"),
        ("a.mov", "30000/1001", "10:01:00;02"),
        ("a.mov", "60000/1001", "10:01:00;04"),
        ("a.mov", "30000/1001", "10:01:00:00"),
        ("a.mxf", "25", "23:59:59:24"),
        ("a.mkv", "25", "01:00:00:00"),
    ],
)
def test_the_source_timecode_is_read(tmp_path: Path, name: str, rate: str, timecode: str) -> None:
    codec = ["-c:v", "mpeg2video"] if name.endswith("mxf") else []
    info = make(tmp_path / name, rate, "-timecode", timecode, *codec)
    assert info.timecode == timecode
    assert (info.sound_tracks, info.sound_channels, info.sound_rate) == (0, None, None)


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_stated(tmp_path: Path, channels: int) -> None:
    info = make(tmp_path / "a.mp4", "25", sound=channels)
    assert (info.sound_tracks, info.sound_channels, info.sound_rate) == (1, channels, 48000)
    assert info.timecode is None


def test_an_edit_of_a_file_with_timecode_counts_from_it(tmp_path: Path) -> None:
    info = make(tmp_path / "a.mov", "25", "-timecode", "14:09:42:00", sound=2)
    result = Captions((Event(0.4, 1.0, "x"),), info, captions().provenance)
    assert " 14:09:42:10 14:09:43:00 00:00:00:00 00:00:00:15\n" in render(result, "edl")
    assert Fraction(1274550, 25) == 14 * 3600 + 9 * 60 + 42
    assert 'start="1274550/25s"' in render(result, "fcpxml")
    assert 'hasAudio="1" audioSources="1" audioChannels="2" audioRate="48000"' in (
        render(result, "fcpxml")
    )


def two_tracks(path: Path) -> Path:
    """Make a file of two video tracks: 2 s of red at 64x48 and 3 s of blue at 48x32."""
    command = [find_program().path, "-v", "error"]
    for colour, size, length in (("red", "64x48", 2), ("blue", "48x32", 3)):
        command += ["-f", "lavfi", "-i", f"color={colour}:size={size}:rate=10:duration={length}"]
    command += ["-map", "0", "-map", "1", "-c:v", "mpeg2video", "-disposition:v:0", "default"]
    if path.suffix == ".ts":
        command += ["-program", "title=A:st=0", "-program", "title=B:st=1"]
    subprocess.run([*command, "-metadata:s:v:1", "title=Camera B", str(path)], check=True)
    return path


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_every_video_track_can_be_chosen(tmp_path: Path, suffix: str) -> None:
    path = two_tracks(tmp_path / f"a.{suffix}")
    seen = set()
    for stream, size, length_s, channel in ((0, (64, 48), 2.0, 0), (1, (48, 32), 3.0, 2)):
        footage = FrameSampler(path, fps=1.0, stream=stream)
        info = footage.info
        assert (info.width, info.height) == size
        assert info.duration_s == pytest.approx(length_s, abs=0.05)
        colour = next(footage.frames()).frame.rgb().mean(axis=(0, 1))
        assert int(colour.argmax()) == channel
        assert footage.warnings == ()
        seen.add(size)
    unasked = FrameSampler(path, fps=1.0)
    assert (unasked.info.width, unasked.info.height) in seen
    (warning,) = unasked.warnings
    assert warning.startswith("the file has 2 video tracks: stream ")
    assert "(mpeg2video, 64x48" in warning
    assert "(mpeg2video, 48x32" in warning
    assert "--stream" in warning


def test_tracks_are_named_by_their_titles(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "a.mkv")
    assert "stream 1 (mpeg2video, 48x32, 'Camera B')" in FrameSampler(path, fps=1.0).warnings[0]
    with pytest.raises(VideoError, match=r"stream 2 is not a video track; .*'Camera B'"):
        FrameSampler(path, fps=1.0, stream=2)


def test_a_chosen_track_is_decoded_in_another_process_too(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "a.mkv")
    pool = DecoderPool(IsolationSettings(timeout_s=60))
    try:
        reader = IsolatedReader(pool, path, fps=1.0, image_size=16, stream=1)
        runs = list(reader.runs())
    finally:
        pool.close()
    assert reader.info.width == 48
    assert int(runs[0].pixels.float().mean(dim=(1, 2)).argmax()) == 2


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_rate_of_a_raw_stream_can_be_stated(tmp_path: Path, codec: str) -> None:
    """Coded at 10 frames a second, which the stream states; in truth there were 20."""
    path = make_video(
        tmp_path / f"a.{'h264' if codec == 'libx264' else 'hevc'}",
        frames=40,
        fps=10,
        codec=codec,
        options={"x265-params": "log-level=none"} if codec == "libx265" else None,
    )
    stated, plain = (FrameSampler(path, fps=1.0, raw_fps=rate) for rate in (20.0, None))
    assert (stated.info.fps, stated.info.duration_s) == (20.0, 2.0)
    assert (plain.info.fps, plain.info.duration_s) == (10.0, 4.0)
    assert [read_index(shown.frame.rgb()) for shown in stated.frames()] == [0, 20]


def test_files_with_times_keep_them(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20, fps=10)
    assert FrameSampler(path, fps=1.0, raw_fps=5.0).info.duration_s == 2.0
