"""Timecode and sound as the container states them, and as results keep them."""

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from tests.helpers.result_makers import captions
from vidground.media.ffmpeg import find_program
from vidground.results.formats import render
from vidground.results.types import Captions, Event
from vidground.video.info import VideoInfo
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
