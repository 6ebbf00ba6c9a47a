"""Clips: their frames, their lengths and their sound, read back from what ffmpeg has made."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.helpers.film_files import (
    indices,
    loses_turns,
    make_film,
    make_sounding,
    make_unknown_sound,
    programs,
    sound,
    tone_start_s,
)
from tests.helpers.video_files import make_video, remux
from vidground.errors import InputError
from vidground.media.clips import ClipMaker
from vidground.media.cuts import CutSettings, Mode
from vidground.media.ffmpeg import FfmpegError, Program
from vidground.media.timed_video import TimedVideo

SOUND_FRAME_S = 1024 / 8000
"""Copied sound begins and ends with a packet of its own."""
SETTLING_S = SOUND_FRAME_S
"""ffmpeg from 7 on marks the first packet of copied sound in Matroska as not to be heard: what it
decodes to leans on the packet before, which is not there."""

SPANS = ((0.0, 0.41), (0.5, 0.93), (1.013, 1.487), (0.75, 1.25))

PROGRAMS = programs()
one_program = pytest.mark.parametrize("program", PROGRAMS[:1])
each_program = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three seconds each, a key picture every 12 frames, a tone from the first second on."""
    folder = tmp_path_factory.mktemp("films")
    film = make_film(folder / "film.mp4")
    names = {"mp4": film, "mkv": make_film(folder / "film.mkv")}
    names["ts"] = make_film(folder / "film.ts")  # its times begin at 1.4 s
    names["ntsc"] = make_film(folder / "ntsc.mp4", frames=90, fps=Fraction(30000, 1001))
    return names


def picture_lead_s(path: Path) -> float:
    """Seconds from the file's start to its first picture, as the library measures both."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.start_time * stream.time_base) - container.start_time / av.time_base


@each_program
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_packets_are_copied_from_a_key_frame_to_a_split_point(
    films: dict[str, Path], program: Program, kind: str, tmp_path: Path
) -> None:
    # From the key picture 12 to 40, where the packets part: behind the key picture 36 and three.
    clip = ClipMaker(films[kind], program).make(0.47, 1.59, tmp_path / f"clip.{kind}")
    assert clip.cut.packets == 28
    assert indices(clip.path) == list(range(12, 40))
    assert clip.duration_s == pytest.approx(1.12, abs=1e-3)
    assert tone_start_s(clip.path) == pytest.approx(1 - 0.48, abs=0.01)
    start_s, samples = sound(clip.path)
    assert start_s < SOUND_FRAME_S + (SETTLING_S if kind == "mkv" else 0)
    assert start_s + len(samples) / 8000 > 1.12 - SOUND_FRAME_S


@each_program
@pytest.mark.parametrize("kind", ["mp4", "ts", "ntsc"])
def test_other_clips_are_reencoded_and_exact(
    films: dict[str, Path], program: Program, kind: str, tmp_path: Path
) -> None:
    rate = 30000 / 1001 if kind == "ntsc" else 25
    clip = ClipMaker(films[kind], program).make(0.9, 1.73, tmp_path / "clip.mp4")
    assert clip.cut.packets is None
    lead_s = picture_lead_s(films[kind])
    first, end = round((0.9 - lead_s) * rate), round((1.73 - lead_s) * rate)
    assert indices(clip.path) == list(range(first, end))
    assert clip.duration_s == pytest.approx((end - first) / rate, abs=1e-4)
    assert abs(clip.duration_s - 0.83) < 1 / rate
    assert tone_start_s(clip.path) == pytest.approx(1 - first / rate, abs=0.01)
    start_s, samples = sound(clip.path)
    assert start_s == pytest.approx(0, abs=2e-3)
    assert start_s + len(samples) / 8000 == pytest.approx(clip.duration_s, abs=SOUND_FRAME_S)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe is installed")
@each_program
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(25)]
)
def test_ffprobe_measures_the_asked_length_within_a_frame(
    program: Program, suffix: str, rate: Fraction, tmp_path: Path
) -> None:
    film = make_film(tmp_path / f"film{suffix}", frames=90, fps=rate)
    maker = ClipMaker(film, program)
    clips = [maker.make(*span, tmp_path / f"{span[0]}{suffix}") for span in SPANS]
    assert {clip.cut.packets is None for clip in clips} == {True, False}
    for clip, (start_s, end_s) in zip(clips, SPANS, strict=True):
        assert abs(probed_s(clip.path) - (end_s - start_s)) <= 1 / rate + 1e-3
        assert probed_s(clip.path) == pytest.approx(clip.duration_s, abs=2e-3)
    reel_s = maker.join(clips, tmp_path / f"reel{suffix}")
    assert probed_s(tmp_path / f"reel{suffix}") == pytest.approx(reel_s, abs=2e-3)
    assert reel_s == pytest.approx(sum(clip.cut.duration_s for clip in clips), abs=2e-3)


def probed_s(path: Path) -> float:
    """What ffprobe measures from the first picture to the end of the last."""
    entries = ("-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0")
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", *entries, str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    spans = [tuple(map(float, line.split(",")[:2])) for line in told.stdout.split()]
    return max(start + length for start, length in spans) - min(start for start, _ in spans)


@each_program
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_rotated_picture_stays_rotated(program: Program, suffix: str, tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", frames=60, size=(96, 64), rotation=90)
    maker = ClipMaker(film, program)
    clips = [
        maker.make(*span, tmp_path / f"{span[0]}{suffix}") for span in ((0.48, 0.88), (1.1, 1.5))
    ]
    if suffix == ".mp4":  # not every program can copy it to the other
        assert [clip.cut.packets is None for clip in clips] == [False, True]
    if suffix == ".mkv" and loses_turns(program):
        with pytest.raises(FfmpegError, match=r"rotation to \.mkv; choose auto or precise"):
            ClipMaker(film, program, CutSettings("fast")).make(0.5, 0.8, tmp_path / "fast.mkv")
        assert not (tmp_path / "fast.mkv").exists()
    maker.join(clips, tmp_path / f"reel{suffix}")
    for path in (*(clip.path for clip in clips), tmp_path / f"reel{suffix}"):
        info = TimedVideo(path).info
        assert (info.width, info.height) == (64, 96)


@each_program
def test_fast_copies_more_than_the_asked_interval(
    films: dict[str, Path], program: Program, tmp_path: Path
) -> None:
    maker = ClipMaker(films["mp4"], program, CutSettings("fast"))
    clip = maker.make(1.2, 1.8, tmp_path / "clip.mp4")  # the frames 30 to 44
    shown = indices(clip.path)
    assert shown == list(range(24, 24 + len(shown)))
    assert clip.cut.packets == len(shown) >= 21
    assert clip.duration_s == pytest.approx(len(shown) / 25)


@one_program
def test_precise_copies_nothing(films: dict[str, Path], program: Program, tmp_path: Path) -> None:
    maker = ClipMaker(films["mp4"], program, CutSettings("precise"))
    clip = maker.make(0.96, 1.0, tmp_path / "clip.mp4")
    assert (clip.cut.packets, indices(clip.path)) == (None, [24])


@each_program
def test_a_reel_holds_copied_and_encoded_clips_in_order(
    films: dict[str, Path], program: Program, tmp_path: Path
) -> None:
    maker = ClipMaker(films["mp4"], program)
    spans = [(0.48, 0.88), (0.8, 1.2), (2.2, 2.6)]
    clips = [maker.make(*span, tmp_path / f"{i}.mp4") for i, span in enumerate(spans)]
    assert {clip.cut.packets is None for clip in clips} == {True, False}
    duration_s = maker.join(clips, tmp_path / "reel.mp4")
    expected = [index for clip in clips for index in range(clip.cut.first, clip.cut.end)]
    assert indices(tmp_path / "reel.mp4") == expected
    assert duration_s == pytest.approx(len(expected) / 25, abs=1e-3)
    assert tone_start_s(tmp_path / "reel.mp4") == pytest.approx(10 / 25 + 5 / 25, abs=0.015)
    assert {path.name for path in tmp_path.iterdir()} == {"0.mp4", "1.mp4", "2.mp4", "reel.mp4"}


@one_program
def test_a_reel_of_copied_clips_copies_them(
    films: dict[str, Path], program: Program, tmp_path: Path
) -> None:
    maker = ClipMaker(films["mkv"], program)
    clips = [maker.make(*span, tmp_path / f"{span[0]}.mkv") for span in [(1.92, 2.32), (0, 0.4)]]
    assert all(clip.cut.packets for clip in clips)
    maker.join(clips, tmp_path / "reel.mkv")
    assert indices(tmp_path / "reel.mkv") == [*range(48, 58), *range(10)]
    assert TimedVideo(tmp_path / "reel.mkv").packets.keys.sum() == 2
    with pytest.raises(InputError, match="no clip to join"):
        maker.join([], tmp_path / "none.mkv")


@each_program
def test_other_codecs_sizes_and_files_without_sound(program: Program, tmp_path: Path) -> None:
    odd = make_video(
        tmp_path / "odd.mkv",
        frames=20,
        size=(65, 49),
        codec="ffv1",
        gop=1,
        pixel_format="yuv444p",
        bframes=0,
    )
    clip = ClipMaker(odd, program, CutSettings("precise")).make(0.2, 0.6, tmp_path / "clip.mov")
    assert indices(clip.path) == list(range(5, 15))
    assert TimedVideo(clip.path).info.width == 66
    silent = make_video(
        tmp_path / "silent.webm",
        codec="libvpx-vp9",
        frames=20,
        bframes=0,
        options={"cpu-used": "8", "deadline": "realtime"},
    )
    maker = ClipMaker(silent, program, CutSettings("precise"))
    clips = [maker.make(0.2, 0.32, tmp_path / "clip.webm")]
    assert indices(clips[0].path) == [5, 6, 7]
    assert maker.join(clips, tmp_path / "reel.webm") == pytest.approx(0.12, abs=2e-3)


@one_program
def test_variable_rates_keep_every_time(program: Program, tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.4, 0.41, 0.7, 0.8, 1.0, 1.05]
    film = make_video(tmp_path / "a.mp4", frames=9, times=times, bframes=0, gop=50)
    clip = ClipMaker(film, program).make(0.13, 0.72, tmp_path / "clip.mp4")
    assert indices(clip.path) == [2, 3, 4]
    ticks = TimedVideo(clip.path).timeline
    assert [float(tick * ticks.time_base) for tick in ticks.ticks] == pytest.approx([0, 0.25, 0.26])


@one_program
def test_sound_that_begins_late_or_ends_early_keeps_its_times(
    program: Program, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "a.mp4", frames=50, tone_s=0.5, sound_s=1.0)
    maker = ClipMaker(film, program, CutSettings("precise"))
    clip = maker.make(0.2, 2.0, tmp_path / "clip.mp4")
    _, samples = sound(clip.path)
    assert len(samples) / 8000 == pytest.approx(1.8, abs=SOUND_FRAME_S)  # filled with silence
    assert tone_start_s(clip.path) == pytest.approx(0.3, abs=0.01)
    behind = maker.make(1.4, 1.8, tmp_path / "behind.mp4")
    assert indices(behind.path) == list(range(35, 45))


@one_program
def test_frames_with_untrusted_times_are_counted(program: Program, tmp_path: Path) -> None:
    raw = make_video(tmp_path / "a.h264", frames=30)
    assert not TimedVideo(raw).is_timed
    clip = ClipMaker(raw, program).make(0.2, 0.6, tmp_path / "clip.mkv")
    assert indices(clip.path) == list(range(5, 15))
    avi = make_video(tmp_path / "a.avi", frames=30, codec="mpeg4", bframes=0)
    clip = ClipMaker(avi, program).make(0.2, 0.6, tmp_path / "clip.mp4")
    assert indices(clip.path) == list(range(5, 15))


@one_program
def test_a_cut_off_start_counts_from_the_first_frame(program: Program, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", frames=60)
    late = remux(whole, tmp_path / "late.mkv", shift_s=5.0)
    clip = ClipMaker(late, program).make(0.48, 0.88, tmp_path / "clip.mkv")
    assert (clip.cut.packets, indices(clip.path)) == (10, list(range(12, 22)))
    clip = ClipMaker(late, program).make(0.6, 0.8, tmp_path / "clip.mkv")
    assert (clip.cut.packets, indices(clip.path)) == (None, list(range(15, 20)))


@each_program
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_times_count_from_the_sound_where_it_begins_first(
    program: Program, name: str, tmp_path: Path
) -> None:
    film = make_sounding(tmp_path / name, picture_s=2, sound_s=0)
    maker = ClipMaker(film, program)
    assert maker.duration_s == pytest.approx(6.0, abs=0.1)
    lead_s = picture_lead_s(film)
    clip = maker.make(lead_s + 1.0, lead_s + 1.6, tmp_path / "clip.mp4")
    assert indices(clip.path) == list(range(25, 40))
    assert clip.duration_s == pytest.approx(0.6, abs=1e-3)
    early = maker.make(0.0, lead_s + 0.4, tmp_path / "early.mp4")
    assert indices(early.path) == list(range(10))


@one_program
def test_packets_that_a_container_does_not_take_are_reencoded(
    films: dict[str, Path], program: Program, tmp_path: Path
) -> None:
    # H.264 in WebM; "fast" says so instead.
    clip = ClipMaker(films["mkv"], program).make(0.96, 1.2, tmp_path / "clip.webm")
    assert (clip.cut.packets, indices(clip.path)) == (None, list(range(24, 30)))
    with pytest.raises(FfmpegError, match="WebM"):
        ClipMaker(films["mkv"], program, CutSettings("fast")).make(0.96, 1.2, tmp_path / "b.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webm"]


@one_program
def test_a_failed_run_leaves_the_existing_file(
    films: dict[str, Path], program: Program, tmp_path: Path
) -> None:
    output = tmp_path / "clip.mp4"
    output.write_bytes(b"old")
    maker = ClipMaker(films["mp4"], Program("/bin/false", "0", "test"))
    with pytest.raises(FfmpegError, match="exit code 1"):
        maker.make(0.1, 0.5, output)
    with pytest.raises(InputError, match=r"video ends at 3\.000 s"):
        ClipMaker(films["mp4"], program).make(3.5, 4.0, output)
    with pytest.raises(InputError, match=r"suffix '\.exe' cannot be written"):
        ClipMaker(films["mp4"], program).make(0.1, 0.5, tmp_path / "a.exe")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert output.read_bytes() == b"old"


@pytest.mark.parametrize("mode", ["auto", "fast"])
def test_containers_without_an_index_are_not_copied(films: dict[str, Path], mode: Mode) -> None:
    settings = CutSettings(mode)
    if mode == "fast":
        with pytest.raises(InputError, match="mp4, mov, mkv and webm only"):
            ClipMaker(films["ts"], None, settings)
    else:
        assert ClipMaker(films["ts"], None, settings).plan(0.96, 1.56).packets is None


def sound_tracks(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(container.streams.audio)


@each_program
@pytest.mark.parametrize("span", [(0.47, 1.59), (0.9, 1.73)], ids=["copied", "encoded"])
def test_sound_without_a_decoder_is_left_out(
    films: dict[str, Path], program: Program, span: tuple[float, float], tmp_path: Path
) -> None:
    film = make_unknown_sound(tmp_path / "film.mov", films["mp4"])
    maker = ClipMaker(film, program)
    assert maker.left_out == "sound track 2 left out: no decoder for the codec"
    clip = maker.make(*span, tmp_path / "clip.mov")
    assert (clip.cut.packets is None) == (span[0] == 0.9)
    assert sound_tracks(clip.path) == 1
    assert tone_start_s(clip.path) == pytest.approx(1 - clip.cut.start_s, abs=0.01)
    assert ClipMaker(films["mp4"], program).left_out is None


@each_program
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_pictures_of_ten_bits_keep_them(program: Program, suffix: str, tmp_path: Path) -> None:
    film = make_film(
        tmp_path / "film.mp4",
        frames=25,
        codec="libx265",
        pixel_format="yuv420p10le",
        bframes=0,
        options={"x265-params": "log-level=none"},
    )
    clip = ClipMaker(film, program, CutSettings("precise")).make(
        0.2, 0.6, tmp_path / f"clip{suffix}"
    )
    with av.open(str(clip.path)) as container:
        assert next(container.decode(video=0)).format.components[0].bits == 10
    assert indices(clip.path) == list(range(5, 15))


@each_program
@pytest.mark.parametrize("mode", ["fast", "precise"])
@pytest.mark.parametrize(
    ("rate", "start", "expected"),
    [
        (Fraction(25), "14:09:42:00", "14:09:43:00"),
        (Fraction(30000, 1001), "10:00:59;10", "10:01:00;12"),  # ;00 and ;01 are left out
    ],
)
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_clips_carry_their_own_source_timecode(
    program: Program,
    mode: Mode,
    rate: Fraction,
    start: str,
    expected: str,
    suffix: str,
    tmp_path: Path,
) -> None:
    film = make_video(tmp_path / f"plain{suffix}", frames=60, fps=rate, gop=5, bframes=0)
    timed = tmp_path / f"film{suffix}"
    copy = [program.path, "-v", "error", "-i", str(film), "-c", "copy", "-timecode", start]
    subprocess.run([*copy, str(timed)], check=True)
    frames = 25 if rate == 25 else 30
    clip = ClipMaker(timed, program, CutSettings(mode)).make(
        float(frames / rate), float((frames + 20) / rate), tmp_path / f"clip{suffix}"
    )
    assert clip.cut.start_s == pytest.approx(float(frames / rate), abs=2e-3)
    assert TimedVideo(clip.path).info.timecode == expected
