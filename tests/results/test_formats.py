"""Formats: exact text by hand, empty results, untrusted text, saving by suffix."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.result_makers import ASKED, TWO, VIDEO, answer, captions
from vidground.errors import FormatError
from vidground.results.formats import (
    FORMATS,
    SUBTITLE_FORMATS,
    CueSettings,
    format_of,
    load,
    render,
    save,
    suffix_of,
)
from vidground.results.types import Captions, Event, Groundings

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,250\n=run -> stop\n\n"
            "2\n00:00:01,500 --> 00:00:04,000\nA man & a <dog>\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\n=run --&gt; stop\n\n"
            "00:00:01.500 --> 00:00:04.000\nA man &amp; a &lt;dog&gt;\n\n",
        ),
        ("tsv", "start\tend\ttext\n0\t1250\t=run --> stop\n1500\t4000\tA man & a <dog>\n"),
        (
            "csv",
            "start_s,end_s,score,text\n0.000,1.250,0.750000,'=run --> stop\n"
            "1.500,4.000,,A man & a <dog>\n",
        ),
        (
            "txt",
            "[00:00:00.000 - 00:00:01.250] =run --> stop\n"
            "[00:00:01.500 - 00:00:04.000] A man & a <dog>\n",
        ),
        (
            "jsonl",
            '{"video": "in/match.mp4", "start_s": 1.5, "end_s": 4.0, "text": "A man & a <dog>", '
            '"score": null}\n'
            '{"video": "in/match.mp4", "start_s": 0.0, "end_s": 1.25, "text": "=run --> stop", '
            '"score": 0.75}\n',
        ),
    ],
)
def test_exact_text(format: str, text: str) -> None:
    assert render(TWO, format) == text


def test_moments_are_written_by_time_and_in_json_lines_as_ranked() -> None:
    assert render(ASKED, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,000\na goal\n\n2\n00:00:02,000 --> 00:00:04,000\na goal\n\n"
    )
    rows = [json.loads(row) for row in render(ASKED, "jsonl").splitlines()]
    assert rows == [
        {"video": "in/match.mp4", "start_s": 2.0, "end_s": 4.0, "query": "a goal", "score": 0.7},
        {"video": "in/match.mp4", "start_s": 0.0, "end_s": 1.0, "query": "a goal", "score": 0.6},
    ]


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("srt", ""),
        ("vtt", "WEBVTT\n\n"),
        ("jsonl", ""),
        ("csv", "start_s,end_s,score,text\n"),
        ("tsv", "start\tend\ttext\n"),
        ("txt", ""),
    ],
)
def test_no_events_make_a_valid_file(format: str, text: str) -> None:
    assert render(captions(), format) == text
    asked = render(Groundings((answer("nothing"),)), format)
    assert asked.startswith("[not found] nothing: ") if format == "txt" else asked == text


def test_an_event_without_text_is_kept_in_every_format() -> None:
    result = captions(Event(0, 1, "\x00 \n"))
    assert render(result, "srt") == "1\n00:00:00,000 --> 00:00:01,000\n…\n\n"
    assert render(result, "vtt") == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n…\n\n"
    assert render(result, "txt") == "[00:00:00.000 - 00:00:01.000]\n"
    assert render(result, "tsv") == "start\tend\ttext\n0\t1000\t\n"
    assert render(result, "csv").endswith("0.000,1.000,,\n")


@pytest.mark.parametrize("text", ["'quoted' words", "'", "''", "'=1", "it's", "=1+1"])
def test_csv_gives_every_text_back_without_one_leading_apostrophe(text: str) -> None:
    (_, row) = csv.reader(io.StringIO(render(captions(Event(0, 1, text)), "csv")))
    assert row[3].removeprefix("'") == text
    assert row[3][0] not in "=+-@"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r@", "\x00=", "\uff1d", "\uff20"])
def test_a_formula_is_no_formula_in_a_spreadsheet(start: str) -> None:
    (_, row) = csv.reader(io.StringIO(render(captions(Event(0, 1, start + "1+1")), "csv")))
    assert row[3].startswith("'")


def test_csv_quotes_and_its_reader_gets_the_text_back() -> None:
    text = 'he said "go, now"; -1'
    (_, row) = csv.reader(io.StringIO(render(captions(Event(0, 1, text)), "csv")))
    assert row == ["0.000", "1.000", "", text]


def test_arrows_of_any_length_are_defused_in_srt() -> None:
    text = "a --> b ---> c ----> d -\x00-> e"
    srt = render(captions(Event(0, 1, text)), "srt")
    assert srt.split("\n")[2] == "a -> b -> c -> d -> e"


def test_terminal_sequences_reach_no_text_format() -> None:
    result = captions(Event(0, 1, "\x1b]0;owned\x07\x1b[31mred\x9b2J \u202e"))
    for format in FORMATS:
        shown = render(result, format)
        assert not set(shown) & {"\x1b", "\x9b", "\x07"}
        assert format in {"json", "jsonl"} or "\u202e" not in shown
    assert "red\n" in render(result, "txt")


def test_cue_settings_shape_subtitles_only() -> None:
    result = captions(Event(0, 4, "aaaa bbbb"))
    narrow = CueSettings(max_line_width=4, max_line_count=1)
    for format in FORMATS:
        same = render(result, format) == render(result, format, cues=narrow)
        assert same == (format not in SUBTITLE_FORMATS)
    assert render(result, "srt", cues=narrow) == (
        "1\n00:00:00,000 --> 00:00:02,000\naaaa\n\n2\n00:00:02,000 --> 00:00:04,000\nbbbb\n\n"
    )
    # The video ends at 4.5 s.
    late = render(captions(Event(4, 4.2, "x")), "vtt", cues=CueSettings(min_duration_s=2.0))
    assert "00:00:04.000 --> 00:00:04.500" in late


def test_gaps_are_counted_in_frames_of_the_video() -> None:
    # Two frames at 25 per second are 80 ms, at 50 they are 40.
    two = captions(Event(0, 2, "a"), Event(2, 4, "b"))
    netflix = CueSettings(style="netflix")
    assert "00:00:00.000 --> 00:00:01.920" in render(two, "vtt", cues=netflix)
    fast = replace(two, video=replace(VIDEO, fps=50.0))
    assert "00:00:00.000 --> 00:00:01.960" in render(fast, "vtt", cues=netflix)


@pytest.mark.parametrize(
    ("format", "package"),
    [
        ("ass", "pysubs2"),
        ("ttml", "pysubs2"),
        ("otio", "opentimelineio"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FormatError, match=rf"{format} needs the package {package}.*\[formats\]"):
        save(TWO, tmp_path / f"a.{format}")
    assert not list(tmp_path.iterdir())
    assert render(TWO, "fcpxml").startswith("<?xml")


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [TWO, ASKED], ids=["captions", "grounding"])
def test_saved_json_loads_equal(tmp_path: Path, result: Captions | Groundings) -> None:
    path = tmp_path / "new" / "folders" / "a.json"
    result.save(path)
    assert load(path) == result
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
    assert path.read_bytes() == render(result, "json").encode()


def test_one_result_saves_as_a_list_of_one(tmp_path: Path) -> None:
    ASKED.results[0].save(tmp_path / "a.json")
    assert load(tmp_path / "a.json") == Groundings(ASKED.results[:1])


@pytest.mark.parametrize("format", FORMATS)
def test_the_suffix_names_the_format(tmp_path: Path, format: str) -> None:
    named = tmp_path / f"a.b{suffix_of(format).upper()}"
    assert format_of(named) == format
    save(TWO, named)
    save(TWO, str(tmp_path / "plain"), format=format)
    assert named.read_bytes() == render(TWO, format).encode()
    assert (tmp_path / "plain").read_bytes() == render(TWO, format).encode()


def test_suffixes_of_editors_formats_end_as_their_programs_expect() -> None:
    names = ("resolve-edl", "resolve-csv", "premiere-xml", "youtube", "srt")
    assert [suffix_of(name).rpartition(".")[2] for name in names] == (
        ["edl", "csv", "xml", "txt", "srt"]
    )
    assert format_of("resolve.edl") == "edl"
    assert format_of("a.xml") is None
    assert len({suffix_of(name) for name in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("name", ["a.docx", "a", ".srt", "a.srt "])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"end the name with one of \.srt, \.vtt, \.json"):
        save(TWO, tmp_path / "folder" / name)
    assert not (tmp_path / "folder").exists()


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="format 'SRT' is unknown; choose one of srt, vtt"):
        save(TWO, tmp_path / "a.srt", format="SRT")


def test_answers_on_two_videos_are_refused() -> None:
    other = replace(VIDEO, path="b.mp4")
    with pytest.raises(FormatError, match=r"two videos, in/match.mp4 and b.mp4"):
        render(Groundings((answer("x"), answer("y", video=other))), "srt")


def test_formats_load_neither_torch_nor_what_only_some_need() -> None:
    code = "import sys, vidground.results.formats, vidground.results.quality\n"
    code += "sys.exit(bool({'torch', 'pysubs2', 'opentimelineio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
