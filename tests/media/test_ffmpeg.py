"""The program ffmpeg: which one is found, and what it is given whatever files are called."""

import os
import socket
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tests.helpers.film_files import programs
from tests.helpers.video_files import make_video
from vidground.media.ffmpeg import (
    FILES_ONLY,
    VIDEO_ONLY,
    FfmpegError,
    Input,
    Program,
    exact_times,
    find_program,
    run,
)
from vidground.video import video_file

pytestmark = pytest.mark.smoke


HOSTILE = "-y %d 'q\" : \\ ;[a],\nb\udcff.mp4"


def script(folder: Path, body: str, name: str = "ffmpeg") -> Program:
    """A program that does what `body` says, in the language of sh."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Program(str(path), "0", "test")


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_system_program_comes_first(path_folder: Path) -> None:
    script(path_folder, "echo ffmpeg version 7.1-static Copyright")
    found = find_program()
    assert found == Program(str(path_folder / "ffmpeg"), "7.1-static", "system")
    assert str(found) == f"ffmpeg 7.1-static (system: {path_folder}/ffmpeg)"


@pytest.mark.parametrize(
    "body", ["echo ffmpeg version 4.4.2-0ubuntu", "echo ffmpeg version n5.0", "exit 1", "echo hi"]
)
def test_the_bundled_program_replaces_one_that_is_too_old_or_broken(
    path_folder: Path, body: str
) -> None:
    script(path_folder, body)
    assert find_program().origin == "imageio-ffmpeg"


def test_builds_between_releases_count_as_new(path_folder: Path) -> None:
    script(path_folder, "echo ffmpeg version N-12345-gabcdef Copyright")
    assert find_program().origin == "system"


def test_a_missing_ffmpeg_says_how_to_install_it(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(FfmpegError, match=r"5\.1 or newer was found; .*apt install ffmpeg.*media"):
        find_program()
    script(path_folder, "echo ffmpeg version 4.4.2")
    with pytest.raises(FfmpegError, match=r"was found \('.*/ffmpeg' is 4\.4\.2\); "):
        find_program()
    monkeypatch.setitem(sys.modules, "ffmpeg", None)
    with pytest.raises(FfmpegError, match=r"ffmpeg-python is not installed; .*vidground\[media\]"):
        find_program()


def test_names_of_files_never_reach_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    video, output = folder / HOSTILE, folder / f"out{HOSTILE}"
    video.write_bytes(b"pictures")
    told = tmp_path / "told"
    program = script(
        tmp_path,
        f'exec > "{told}"\nfor a in "$@"; do echo "[$a]"; done\ncat; cat text; cat video > output',
    )
    streams = [(Input("video", VIDEO_ONLY), "V:0"), (Input("text", {"format": "srt"}), "s:0")]
    run(program, {"video": video, "text": "hello %d\n"}, streams, output, {"c": ("a", "b")})
    assert output.read_bytes() == b"pictures"
    lines = told.read_text().splitlines()
    assert lines[-1] == "hello %d"  # and nothing from the terminal before it
    arguments = [line[1:-1] for line in lines[:-1]]
    assert arguments[0] == "-nostdin"
    assert arguments.count("file:video") == arguments.count("file:text") == 1
    assert arguments[-5:] == ["-c", "a", "-c", "b", "file:output"]
    assert arguments[arguments.index("-protocol_whitelist") + 1] == "file"
    assert not any(part in a for a in arguments for part in ("%", "'", 'q"', str(tmp_path)))


def test_a_failure_reports_only_the_end_of_the_log(tmp_path: Path) -> None:
    noise = "i=0; while [ $i -lt 3000 ]; do echo noise $i >&2; i=$((i+1)); done"
    program = script(tmp_path, f"{noise}; echo 'frame= 7' >&2; echo the reason >&2; exit 3")
    (tmp_path / "a").touch()
    with pytest.raises(FfmpegError) as caught:
        run(program, {"video": tmp_path / "a"}, [(Input("video"), "v")], tmp_path / "b", {})
    message = str(caught.value)
    assert message.startswith(f"'{tmp_path}/a': ffmpeg 0 (test: {program.path}) failed with exit")
    assert message.endswith("code 3: noise 2996; noise 2997; noise 2998; noise 2999; the reason")


def test_a_killed_program_is_reported(tmp_path: Path) -> None:
    program = script(tmp_path, "kill -9 $$")
    with pytest.raises(FfmpegError, match="was killed by signal 9: no message"):
        run(program, {"text": ""}, [(Input("text"), "v")], tmp_path / "b", {})


def test_an_interruption_ends_the_program(tmp_path: Path) -> None:
    program = script(
        tmp_path, f"echo $$ > {tmp_path}/pid; echo out_time_us=2500000 >&2; exec sleep 60"
    )
    times = []

    def interrupt(time_s: float) -> None:
        times.append(time_s)
        raise KeyboardInterrupt

    streams = [(Input("text"), "v")]
    with pytest.raises(KeyboardInterrupt):
        run(program, {"text": ""}, streams, tmp_path / "b", {}, on_time=interrupt)
    assert times == [2.5]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ffmpeg_opens_the_containers_that_vidground_decodes() -> None:
    assert VIDEO_ONLY.items() >= video_file._SAFE_OPTIONS.items()


@pytest.mark.parametrize("program", programs())
def test_a_playlist_opens_nothing(program: Program, tmp_path: Path) -> None:
    make_video(tmp_path / "secret.mp4", frames=5)
    playlist = tmp_path / "a.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.mp4'\n")
    streams = [(Input("video", VIDEO_ONLY), "v")]
    with pytest.raises(FfmpegError, match=r"'.*a\.mp4'.*[Ww]hitelist"):
        run(program, {"video": playlist}, streams, tmp_path / "b", {"format": "mp4"})


@pytest.mark.parametrize("program", programs())
def test_an_input_opens_no_connection(program: Program, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        texts = {"video": f"#EXTM3U\n#EXTINF:1,\n{address}\n"}
        streams = [(Input("video", {**FILES_ONLY, "format": "hls"}), "v")]
        with pytest.raises(FfmpegError, match="exit code"):
            run(program, texts, streams, tmp_path / "b", {"format": "mp4"})
        with pytest.raises(BlockingIOError):
            server.accept()


def test_steps_of_time_are_exact() -> None:
    assert exact_times(Fraction(1001, 24000))["enc_time_base:v"] == "1001:24000"
