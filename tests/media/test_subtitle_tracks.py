"""Subtitles burned in and as soft tracks, read back from what ffmpeg has made."""

from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.film_files import (
    captions_of,
    indices,
    loses_turns,
    make_film,
    make_sounding,
    make_unknown_sound,
    programs,
    tone_start_s,
)
from tests.helpers.video_files import make_video, plain_decode, remux
from vidground.errors import InputError
from vidground.media.ffmpeg import FfmpegError, Program
from vidground.media.subtitle_tracks import BurnSettings, TrackSettings, burn, mux
from vidground.media.timed_video import TimedVideo, left_out_of
from vidground.results.cues import CueSettings
from vidground.results.types import Event

pytestmark = pytest.mark.smoke


HOSTILE = "<b>5 > 4</b> {\\an8}a\\Nb & 'c': %d, [x];"
EVENTS = (Event(0.5, 1.0, "first"), Event(1.2, 1.6, HOSTILE))

PROGRAMS = programs()
one_program = pytest.mark.parametrize("program", PROGRAMS[:1])
each_program = pytest.mark.parametrize("program", PROGRAMS)
with_fonts = pytest.mark.skipif(
    not any(Path("/usr/share/fonts").rglob("*.[to]tf")), reason="no font on this machine"
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", frames=50)


def tracks(path: Path) -> list[tuple[str, dict[str, str], list[tuple[float, float, str]]]]:
    """Codec, tags, and cues (start, end in seconds from the first picture, text) of each track."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        zero_s = float(picture.pts * picture.time_base)
    found = []
    with av.open(str(path)) as container:
        for stream in container.streams.subtitles:
            container.seek(0)
            cues = []
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                start_s = float(packet.pts * packet.time_base) - zero_s
                raw = bytes(packet)
                text = raw[2 : 2 + int.from_bytes(raw[:2], "big")] if path.suffix == ".mp4" else raw
                if text:
                    end_s = start_s + float(packet.duration * packet.time_base)
                    cues.append((start_s, end_s, text.decode()))
            found.append((stream.codec_context.name, dict(stream.metadata), cues))
    return found


@each_program
@pytest.mark.parametrize(
    ("suffix", "codec", "text"),
    [
        (".mp4", "mov_text", HOSTILE),
        (".mkv", "srt", HOSTILE),
        (
            ".webm",
            "webvtt",
            HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        ),
    ],
)
def test_a_soft_track_holds_texts_and_times(
    film: Path, program: Program, suffix: str, codec: str, text: str, tmp_path: Path
) -> None:
    if suffix == ".webm":
        film = make_video(
            tmp_path / "film.webm",
            codec="libvpx-vp9",
            frames=50,
            bframes=0,
            options={"cpu-used": "8", "deadline": "realtime"},
        )
    output = tmp_path / f"out{suffix}"
    mux(film, captions_of(film, *EVENTS), output, program, TrackSettings("eng", "-y; what"))
    [(found, tags, cues)] = tracks(output)
    assert found.split("_")[0] == codec.split("_")[0]
    assert tags["language"] == "eng"
    assert "-y; what" in tags.values()
    assert [cue[2].replace("\u2060", "") for cue in cues] == ["first", text]
    assert [cue[:2] for cue in cues] == [
        pytest.approx((e.start_s, e.end_s), abs=2e-3) for e in EVENTS
    ]
    assert indices(output) == list(range(50))


@each_program
def test_overlaps_are_merged_for_mov_text(film: Path, program: Program, tmp_path: Path) -> None:
    result = captions_of(film, Event(0.2, 1.8, "long"), Event(0.5, 1.0, "short"))
    mux(film, result, tmp_path / "a.mp4", program)
    [(_, _, cues)] = tracks(tmp_path / "a.mp4")
    assert [(round(start, 2), round(end, 2), text) for start, end, text in cues] == [
        (0.2, 0.5, "long"),
        (0.5, 1.0, "- long\n- short"),
        (1.0, 1.8, "long"),
    ]
    mux(film, result, tmp_path / "a.mp4", program, cues=CueSettings(overlap="trim"))
    [(_, _, cues)] = tracks(tmp_path / "a.mp4")
    assert [cue[2] for cue in cues] == ["long", "short"]
    mux(film, result, tmp_path / "a.mkv", program)
    [(_, _, cues)] = tracks(tmp_path / "a.mkv")
    assert [(round(cue[1], 2), cue[2]) for cue in cues] == [(1.8, "long"), (1.0, "short")]


@each_program
def test_a_rotated_picture_stays_rotated_or_is_refused(program: Program, tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", frames=20, size=(96, 64), rotation=90)
    result = captions_of(film, Event(0.2, 0.5, "x"))
    mux(film, result, tmp_path / "a.mp4", program)
    assert TimedVideo(tmp_path / "a.mp4").info.width == 64
    old = loses_turns(program)
    refused = pytest.raises(FfmpegError, match=r"choose \.mp4 or \.mov, or install a newer ffmpeg")
    with refused if old else nullcontext():
        mux(film, result, tmp_path / "a.mkv", program)
    assert old != (tmp_path / "a.mkv").exists()
    assert old or TimedVideo(tmp_path / "a.mkv").info.width == 64
    burn(film, result, tmp_path / "b.mkv", program)
    assert TimedVideo(tmp_path / "b.mkv").info.width == 64


@each_program
def test_existing_tracks_are_kept(film: Path, program: Program, tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("1.mp4", "2.mp4", "3.mkv"))
    mux(film, captions_of(film, EVENTS[0]), one, program, TrackSettings("deu"))
    mux(one, captions_of(one, Event(1.0, 1.5, "second")), two, program, TrackSettings("eng"))
    mux(two, captions_of(two, Event(1.7, 1.9, "third")), three, program)
    assert [(tags["language"], cues[0][2]) for _, tags, cues in tracks(two)] == [
        ("eng", "second"),
        ("deu", "first"),
    ]
    assert [(name, cues[0][2]) for name, _, cues in tracks(three)] == [
        (tracks(three)[0][0], text) for text in ("third", "second", "first")
    ]
    assert tone_start_s(three) == pytest.approx(1.0, abs=0.01)


@one_program
def test_times_count_from_the_first_picture(program: Program, tmp_path: Path) -> None:
    late = remux(make_video(tmp_path / "a.mp4", frames=50), tmp_path / "late.ts", shift_s=7.0)
    mux(late, captions_of(late, *EVENTS), tmp_path / "out.mkv", program)
    [(_, _, cues)] = tracks(tmp_path / "out.mkv")
    assert cues[0][:2] == pytest.approx((0.5, 1.0), abs=2e-3)


@each_program
@pytest.mark.parametrize("source", ["a.mp4", "a.ts", "a.mkv"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_before_the_first_picture_is_kept_and_cues_stay_in_place(
    program: Program, source: str, suffix: str, tmp_path: Path
) -> None:
    film = make_sounding(tmp_path / source, picture_s=2, sound_s=0)
    captions = captions_of(film, Event(3.0, 3.5, "text"))
    output = tmp_path / f"out{suffix}"
    try:
        mux(film, captions, output, program)
    except FfmpegError as error:
        if "killed by signal 11" in str(error):
            pytest.skip("this build of ffmpeg crashes on the file")
        raise
    [(_, _, cues)] = tracks(output)  # counted from the first picture
    assert cues[0][0] == pytest.approx(1.0, abs=0.1)
    assert sound_of(output) == pytest.approx((-2.0, 6.0), abs=0.15)
    assert indices(output) == list(range(100))


@with_fonts
@one_program
def test_burning_keeps_the_sound_before_the_first_picture(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("pysubs2")
    film = make_sounding(tmp_path / "a.mp4", picture_s=2, sound_s=0)
    burn(film, captions_of(film, Event(3.0, 3.5, "text")), tmp_path / "out.mp4", program)
    assert sound_of(tmp_path / "out.mp4") == pytest.approx((-2.0, 6.0), abs=0.15)
    assert len(indices(tmp_path / "out.mp4")) == 100


def sound_of(path: Path) -> tuple[float, float]:
    """Start of the sound in seconds from the first picture, and its length."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        zero_s = float(picture.pts * picture.time_base)
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    start_s = float(frames[0].pts * frames[0].time_base) - zero_s
    return start_s, sum(frame.samples / frame.sample_rate for frame in frames)


@one_program
def test_ass_in_matroska_and_shaped_cues(film: Path, program: Program, tmp_path: Path) -> None:
    pytest.importorskip("pysubs2")
    result = captions_of(film, Event(0.5, 1.0, "one two"))
    shape = CueSettings(max_line_width=4)
    mux(film, result, tmp_path / "a.mkv", program, TrackSettings(codec="ass"), cues=shape)
    [(codec, _, cues)] = tracks(tmp_path / "a.mkv")
    assert codec in {"ass", "ssa"}
    assert cues[0][2].endswith("one\\Ntwo")
    with pytest.raises(InputError, match=r"\.mp4 takes no ass subtitles; choose from mov_text"):
        mux(film, result, tmp_path / "a.mp4", program, TrackSettings(codec="ass"))


@one_program
def test_without_events_there_is_no_track(film: Path, program: Program, tmp_path: Path) -> None:
    mux(film, captions_of(film), tmp_path / "a.mkv", program)
    assert tracks(tmp_path / "a.mkv") == []
    assert indices(tmp_path / "a.mkv") == list(range(50))


def changed_rows(one: Path, other: Path, frame: int) -> np.ndarray:
    """Which rows of a frame differ by more than coding does."""
    pictures = [plain_decode(path)[frame][1].astype(int) for path in (one, other)]
    return np.flatnonzero(np.abs(pictures[0] - pictures[1]).max(axis=(1, 2)) > 80)


@with_fonts
@each_program
def test_texts_are_burned_in_for_their_time(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("pysubs2")
    film = make_film(tmp_path / "film.mp4", frames=30, size=(320, 180))
    output = tmp_path / "out.mp4"
    told: list[float] = []
    burn(film, captions_of(film, Event(0.4, 0.8, HOSTILE)), output, program, on_time=told.append)
    shown = [len(changed_rows(film, output, frame)) > 0 for frame in (9, 10, 19, 20)]
    assert shown == [False, True, True, False]
    assert changed_rows(film, output, 15).min() > 180 * 0.75
    assert tone_start_s(output) == pytest.approx(1.0, abs=0.01)
    assert len(plain_decode(output)) == 30
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.2)


@with_fonts
@each_program
def test_characters_without_a_font_are_reported(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pysubs2")
    film = make_film(tmp_path / "film.mp4", frames=30, size=(320, 180))
    output = tmp_path / "out.mp4"
    result = captions_of(film, Event(0.4, 0.8, "a\ue123 b\ue122\\c {}"))  # for private use
    assert burn(film, result, output, program) == "\ue122\ue123"
    output.unlink()
    (tmp_path / "fonts.conf").write_text('<?xml version="1.0"?><fontconfig></fontconfig>')
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    with pytest.raises(FfmpegError, match=r"found no font; .*fonts-dejavu-core"):
        burn(film, result, output, program)
    assert not output.exists()


@with_fonts
@one_program
def test_position_and_size_can_be_chosen(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("pysubs2")
    whole = make_video(tmp_path / "a.mp4", frames=10, size=(320, 180))
    film = remux(whole, tmp_path / "late.ts", shift_s=7.0)
    heights = []
    for size, position, low, high in ((7.0, "top", 0, 0.25), (20.0, "middle", 0.3, 0.7)):
        output = tmp_path / f"{position}.mkv"
        settings = BurnSettings(size, position)  # type: ignore[arg-type]
        burn(film, captions_of(film, Event(0.0, 0.4, "Hxg")), output, program, settings)
        rows = changed_rows(film, output, 5)
        assert 180 * low <= rows.min() < rows.max() <= 180 * high
        heights.append(rows.max() - rows.min())
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: BurnSettings(0.5), "from 1 to 50 percent"),
        (lambda: BurnSettings(position="left"), "one of bottom, middle, top"),
        (lambda: TrackSettings("-y"), "a code like en or deu"),
        (lambda: TrackSettings("english"), "a code like en or deu"),
    ],
)
def test_settings_are_checked(make: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make()  # type: ignore[operator]


@each_program
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_sound_without_a_decoder_is_left_out(
    film: Path, program: Program, suffix: str, tmp_path: Path
) -> None:
    source = make_unknown_sound(tmp_path / "film.mov", film)
    assert left_out_of(source) == "sound track 2 left out: no decoder for the codec"
    assert left_out_of(film) is None
    output = tmp_path / f"out{suffix}"
    mux(source, captions_of(source, *EVENTS), output, program)
    with av.open(str(output)) as container:
        assert len(container.streams.audio) == 1
    assert indices(output) == list(range(50))
    assert tone_start_s(output) == pytest.approx(1.0, abs=0.01)


@with_fonts
@one_program
def test_burning_keeps_ten_bits_and_leaves_out_sound_without_a_decoder(
    program: Program, tmp_path: Path
) -> None:
    film = make_film(
        tmp_path / "film.mp4",
        frames=25,
        codec="libx265",
        pixel_format="yuv420p10le",
        bframes=0,
        options={"x265-params": "log-level=none"},
    )
    source = make_unknown_sound(tmp_path / "source.mp4", film)
    output = tmp_path / "out.mp4"
    burn(source, captions_of(source, Event(0.2, 0.4, "first")), output, program)
    with av.open(str(output)) as container:
        assert len(container.streams.audio) == 1
        assert next(container.decode(video=0)).format.components[0].bits == 10
