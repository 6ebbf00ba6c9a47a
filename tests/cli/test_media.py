"""`vidground clip`, `burn` and `mux`: what they make, what they say, and what they refuse."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.film_files import (
    captions_of,
    indices,
    info_of,
    make_film,
    make_unknown_sound,
)
from tests.helpers.result_makers import answer
from vidground.cli.main import cli
from vidground.media.clips import Clip, ClipMaker
from vidground.media.timed_video import TimedVideo
from vidground.results.types import Event, Groundings, Moment

pytest.importorskip("imageio_ffmpeg")

HOSTILE = "-y 'a' \"b\"; $(touch pwned) %d,[x].mp4"
EVENTS = (Event(0.48, 0.96, "A man & a <dog>", 0.4), Event(1.3, 1.7, "../../etc; $(rm x)", 0.9))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound, a key picture every 12 frames."""
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", frames=50)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: Path) -> Path:
    """Holds film.mp4 with captions and answers to two queries."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(film, "film.mp4")
    captions_of(Path("film.mp4"), *EVENTS).save("film.json")
    asked = (("a goal", Moment(0.2, 0.6, 0.8)), ("a card", Moment(1.0, 1.4, 0.7)))
    info = info_of(Path("film.mp4"))
    Groundings(tuple(answer(q, m, video=info) for q, m in asked)).save("film.query.json")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def made(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


NAMES = ["film_001_00-00-00.480_a-man-a-dog.mp4", "film_002_00-00-01.300_etc-rm-x.mp4"]


def test_each_moment_becomes_a_clip_and_all_of_them_a_reel() -> None:
    result = run("clip", "film.mp4", "film.json", "-o", "clips", "--join")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert made("clips") == [*NAMES, "film_reel.mp4"]
    assert indices(Path("clips", NAMES[0])) == list(range(12, 24))
    assert indices(Path("clips", NAMES[1])) == list(range(32, 42))
    assert indices(Path("clips/film_reel.mp4")) == [*range(12, 24), *range(32, 42)]
    program, first, second, reel = result.stderr.splitlines()
    assert program.startswith("with ffmpeg ")
    assert any(origin in program for origin in ("(system: /", "(imageio-ffmpeg: /"))
    assert first == (
        f"clips/{NAMES[0]}  00:00:00.480 0.480 s, copied (+0 ms at the start, +0 ms at the end)"
    )
    assert second == f"clips/{NAMES[1]}  00:00:01.300 0.400 s, encoded"
    assert reel == "clips/film_reel.mp4  0.880 s, 2 clips joined"


def test_moments_are_padded_and_chosen() -> None:
    assert run("clip", "film.json", "-o", "a", "--padding", "0.2", "--limit", "1").exit_code == 0
    (name,) = made("a")
    assert name == "film_001_00-00-01.100_etc-rm-x.mp4"
    assert TimedVideo(Path("a", name)).info.duration_s == pytest.approx(0.8)
    assert run("clip", "film.query.json", "-o", "b", "--query", "A Goal", "-q").stderr == ""
    assert made("b") == ["film_001_00-00-00.200_a-goal.mp4"]
    result = run("clip", "film.json", "-o", "c", "--min-score", "0.95")
    assert (result.exit_code, result.stderr) == (0, "no moments to cut\n")


def test_precise_encodes_and_fast_copies() -> None:
    assert "encoded" in run("clip", "film.json", "-o", "a", "--limit", "1", "--precise").stderr
    assert "copied (-340 ms at" in run("clip", "film.json", "-o", "b", "--fast").stderr
    wide = run("clip", "film.json", "-o", "c", "--tolerance", "0.4").stderr
    assert wide.count("copied") == 2


def test_a_dry_run_makes_nothing_and_needs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    result = run("clip", "film.json", "-o", "clips", "--dry-run")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[1] == (
        f"would make clips/{NAMES[1]}  00:00:01.300 0.400 s, encoded"
    )
    assert not Path("clips").exists()
    for arguments in (("clip", "film.json", "-o", "clips"), ("mux", "film.json", "-o", "a.mp4")):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "apt install ffmpeg" in result.stderr
        assert "pip install 'vidground[media]'" in result.stderr


def test_one_moment_that_fails_does_not_keep_the_others() -> None:
    late = captions_of(Path("film.mp4"), EVENTS[0], Event(9.0, 9.5, "behind the end"))
    late.save("late.json")
    result = run("clip", "late.json", "-o", "clips")
    assert result.exit_code == 1
    assert made("clips") == [NAMES[0]]
    assert "failed: clips/film_002_" in result.stderr
    assert "begins at 9.000 s, but the video ends at 2.000 s" in result.stderr


def test_hostile_names_stay_names(folder: Path) -> None:
    Path("film.mp4").rename(HOSTILE)
    captions_of(Path(HOSTILE), EVENTS[1]).save("odd.json")
    before = set(made("."))
    assert run("clip", "-o", "clips", "--", HOSTILE, "odd.json").exit_code == 0
    assert run("mux", "odd.json", "-o", f"muxed{HOSTILE}", "--title", "-y $(x)").exit_code == 0
    assert set(made(".")) == before | {"clips", f"muxed{HOSTILE}"}
    assert made("clips") == ["y-a-b-touch-pwned-d-x_001_00-00-01.300_etc-rm-x.mp4"]
    assert not (folder.parent / "etc").exists()


def test_burn_and_mux_say_what_they_made() -> None:
    pytest.importorskip("pysubs2")
    result = run("burn", "film.json", "-o", "shown.mp4", "--position", "top")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0].startswith("with ffmpeg ")
    assert "shown.mp4  2 events in the picture" in result.stderr
    assert len(TimedVideo("shown.mp4").timeline) == 50
    result = run("mux", "film.json", "-o", "muxed.mkv", "--language", "eng")
    assert result.stderr.splitlines()[1:] == ["muxed.mkv  2 events in a track"]
    assert indices(Path("muxed.mkv")) == list(range(50))
    captions_of(Path("film.mp4")).save("none.json")
    assert "no events; no track was added" in run("mux", "none.json", "-o", "n.mkv").stderr


def test_only_the_video_of_the_result_is_taken_unasked(film: Path) -> None:
    info = replace(info_of(film), sha256="0" * 64)
    replace(captions_of(film, EVENTS[0]), video=info).save("other.json")
    result = run("mux", str(film), "other.json", "-o", "a.mkv")
    assert result.exit_code == 1
    assert "has SHA-256" in result.stderr
    assert run("mux", str(film), "other.json", "-o", "a.mkv", "--any-video").exit_code == 0
    assert run("mux", "other.json", "-o", "b.mkv", "--any-video").exit_code == 2


def test_nothing_is_overwritten_unasked_and_inputs_never() -> None:
    Path("a.mkv").write_text("mine")
    result = run("mux", "film.json", "-o", "a.mkv")
    assert (result.exit_code, Path("a.mkv").read_text()) == (2, "mine")
    assert "already exists; replace it (--overwrite)" in result.stderr
    assert run("mux", "film.json", "-o", "a.mkv", "--overwrite").exit_code == 0
    assert Path("a.mkv").read_bytes() != b"mine"
    before = Path("film.mp4").read_bytes()
    for command in ("mux", "burn"):
        result = run(command, "film.json", "-o", "film.mp4", "--overwrite")
        assert result.exit_code == 2
        assert "is an input" in result.stderr
    assert Path("film.mp4").read_bytes() == before
    assert run("clip", "film.json", "-o", "clips").exit_code == 0
    assert run("clip", "film.json", "-o", "clips").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("clip", "film.json", "-o", "a", "--precise", "--fast"), "give only one of them"),
        (("clip", "film.json", "-o", "a", "--fast", "--tolerance", "1"), "give only one"),
        (("clip", "film.json", "-o", "a", "--padding", "-1"), "padding is -1.0"),
        (("clip", "film.json", "-o", "a", "--query", "a goal"), "holds captions, not queries"),
        (("clip", "film.query.json", "-o", "a", "--query", "x"), "choose from: a goal; a card"),
        (("clip", "a", "b", "c", "-o", "a"), "Give one RESULT"),
        (("burn", "film.json", "-o", "a.gif"), "files with suffix '.gif' cannot be written"),
        (("burn", "film.json", "-o", "a.mp4", "--font-size", "99"), "from 1 to 50 percent"),
        (("mux", "film.json", "-o", "a.mp4", "--codec", "ass"), ".mp4 takes no ass subtitles"),
        (("mux", "film.json", "-o", "a.mp4", "--language", "-y"), "a code like en or deu"),
    ],
)
def test_wrong_usage(arguments: Sequence[str], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
    assert made(".") == ["film.json", "film.mp4", "film.query.json"]


def test_a_mistake_with_one_moment_costs_that_clip_only(monkeypatch: pytest.MonkeyPatch) -> None:
    make = ClipMaker.make

    def broken(self: ClipMaker, start_s: float, end_s: float, output: Path) -> Clip:
        if start_s < 1:
            raise IndexError("list index out of range")
        return make(self, start_s, end_s, output)

    monkeypatch.setattr(ClipMaker, "make", broken)
    result = run("clip", "film.mp4", "film.json", "-o", "clips")
    assert result.exit_code == 1
    assert made("clips") == [NAMES[1]]
    failed = result.stderr.splitlines()[1]
    assert failed.startswith(f"failed: 'clips/{NAMES[0]}': internal error: IndexError: list index")


@pytest.mark.parametrize("command", ["clip", "burn", "mux"])
def test_a_mistake_of_the_program_is_a_line_and_a_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AttributeError("no such name")

    monkeypatch.setattr("vidground.video.frame_sampler.FrameSampler.__init__", broken)
    output = {"clip": "clips"}.get(command, "out.mkv")
    result = run(command, "film.mp4", "film.json", "-o", output)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: internal error: AttributeError: no such name (in vidground.")
    assert "damaged" not in result.stderr
    assert "Traceback" not in result.stderr
    result = run("--traceback", command, "film.mp4", "film.json", "-o", output)
    assert "Traceback (most recent call last)" in result.stderr


def test_sound_that_is_left_out_is_named() -> None:
    source = make_unknown_sound(Path("two.mov"), Path("film.mp4"))
    captions_of(source, *EVENTS).save("two.json")
    warning = "warning: two.mov: sound track 2 left out: no decoder for the codec"
    for command in (("clip", "-o", "clips"), ("mux", "-o", "two.mkv")):
        result = run(command[0], "two.json", *command[1:])
        assert result.exit_code == 0, result.stderr
        assert warning in result.stderr
