"""`vidground convert`: which files come of which, what is left alone, what goes on after errors."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.result_makers import ASKED, TWO, captions
from vidground.cli.main import cli
from vidground.results.formats import FORMATS, CueSettings, load, render, suffix_of
from vidground.results.types import Event


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    TWO.save("in/match.json")
    ASKED.save("in/deep/game.query.json")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["convert", *arguments])


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_every_format_is_made_beside_the_result() -> None:
    others = [name for name in FORMATS if name != "json"]
    result = run("in/match.json", "--to", ",".join(others))
    assert result.exit_code == 0, result.stderr
    for name in others:
        made = Path(f"in/match{suffix_of(name)}")
        assert made.read_text() == render(load("in/match.json"), name)
    assert result.stdout == ""


def test_a_folder_is_mirrored_and_infixes_stay() -> None:
    before = files()
    assert run("in", "--recursive", "--to", "vtt,json", "-o", "out").exit_code == 0
    new = {
        f"out/{stem}.{name}" for stem in ("match", "deep/game.query") for name in ("vtt", "json")
    }
    assert files() - before == new
    assert Path("out/deep/game.query.json").read_bytes() == (
        Path("in/deep/game.query.json").read_bytes()
    )


def test_what_exists_is_left_alone_unless_overwrite_is_given() -> None:
    Path("in/match.srt").write_text("mine")
    result = run("in/match.json", "--to", "srt,vtt")
    assert (result.exit_code, Path("in/match.srt").read_text()) == (0, "mine")
    assert Path("in/match.vtt").read_text().startswith("WEBVTT")
    again = run("in/match.json", "--to", "srt,vtt")
    assert "1 skipped" in again.stderr
    assert run("in/match.json", "--to", "srt", "--overwrite").exit_code == 0
    assert Path("in/match.srt").read_text() == render(TWO, "srt")


def test_a_broken_file_is_told_by_name_and_the_rest_goes_on() -> None:
    Path("in/a.json").write_text('{"schema_version": 1, "kind": "captions"}')
    Path("in/b.json").write_text("\x00")
    Path("in/run.json").write_text('{"schema_version": 1, "done": 1}')
    result = run("in", "gone.json", "--to", "srt", "--summary", "new/done.json")
    assert result.exit_code == 1
    assert re.search("in/a.json': .* is missing", result.stderr)
    assert "in/b.json': not JSON" in result.stderr
    assert "'gone.json': no such file" in result.stderr
    assert "'in/run.json': not a result of vidground; ignored" in result.stderr
    assert Path("in/match.srt").exists()
    summary = json.loads(Path("new/done.json").read_text())
    assert (summary["done"], summary["failed"]) == (1, 3)


def test_one_format_goes_to_standard_output() -> None:
    result = run("in/match.json", "--to", "srt", "-o", "-")
    assert (result.exit_code, result.stdout) == (0, render(TWO, "srt"))
    assert run("in", "--recursive", "--to", "jsonl", "-o", "-").stdout == (
        render(TWO, "jsonl") + render(ASKED, "jsonl")
    )


def test_cue_options_shape_subtitles() -> None:
    overlapping = captions(Event(0, 3, "aaaa bbbb"), Event(1, 2, "c"))
    overlapping.save("in/o.json")
    given = ["--overlap", "merge", "--max-line-width", "6", "--style", "netflix"]
    result = run("in/o.json", "--to", "srt", "-o", "-", *given)
    settings = CueSettings(6, overlap="merge", style="netflix")
    assert result.stdout == render(overlapping, "srt", cues=settings)
    assert "- aaaa\nbbbb" in result.stdout


def test_a_corrected_subtitle_becomes_a_result_again() -> None:
    srt = render(TWO, "srt").replace("A man & a <dog>", "A woman")
    Path("in/match.srt").write_text(srt.replace("00:00:01,250", "00:00:01,000"))
    result = run("in/match.srt", "--from", "in/match.json", "--to", "json,vtt", "-o", "corrected")
    assert result.exit_code == 0, result.stderr
    found = load("corrected/match.json")
    assert [(e.start_s, e.end_s, e.text, e.score) for e in found] == [
        (0.0, 1.0, "=run -> stop", None),
        (1.5, 4.0, "A woman", None),
    ]
    assert found.provenance == replace(TWO.provenance, corrected=True)
    assert Path("corrected/match.vtt").read_text() == render(found, "vtt")


def test_a_folder_of_subtitles_corrects_a_folder_of_results() -> None:
    for name, text in (("match", render(TWO, "vtt")), ("deep/game.query", render(ASKED, "vtt"))):
        path = Path("subtitles", f"{name}.vtt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    TWO.save("in/bad.json")
    Path("subtitles/gone.vtt").write_text("WEBVTT\n\n")
    Path("subtitles/bad.vtt").write_text("WEBVTT\n\n00:02.000 --> 00:01.000\nx\n")
    result = run("subtitles", "--recursive", "--from", "in", "--to", "json", "-o", "out")
    assert result.exit_code == 1
    assert "'subtitles/bad.vtt': line 3: " in result.stderr
    assert "in/gone.json': no such file; check the path" in result.stderr
    assert load("out/match.json") == TWO
    assert load("out/deep/game.query.json") == ASKED


@pytest.mark.parametrize("form", ["elan", "via", "labelstudio"])
def test_what_an_annotation_tool_saved_becomes_a_result_again(form: str) -> None:
    annotated = Path("tools", f"match{suffix_of(form)}")
    annotated.parent.mkdir()
    # Label Studio imports predictions and exports annotations.
    annotated.write_text(render(TWO, form).replace('"predictions"', '"annotations"'))
    whole = run(str(annotated), "--from", "in/match.json", "--to", "json", "-o", "whole")
    assert whole.exit_code == 0, whole.stderr
    assert load("whole/match.json") == TWO
    annotated.write_text(annotated.read_text().replace("=run -", "walk -"))
    # In folders, results are left alone and names compared without the suffix of the tool.
    TWO.save("tools/other.json")
    done = run("tools", "--from", "in", "--to", "json", "-o", "out")
    assert done.exit_code == 0, done.stderr
    assert {e.text for e in load("out/match.json")} == {"walk --> stop", "A man & a <dog>"}
    assert not Path("out/other.json").exists()


def test_an_annotation_of_another_video_is_refused() -> None:
    other = replace(TWO, video=replace(TWO.video, path="/films/other.mp4"))
    Path("match.via.json").write_text(render(other, "via"))
    result = run("match.via.json", "--from", "in/match.json", "--to", "json", "-o", "out")
    assert result.exit_code == 1
    assert "is about other.mp4, and the prediction about" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["in/match.srt", "--to", "json"], "in/match.srt' is a subtitle file; name the result"),
        (["in/match.json", "--from", "in", "--to", "srt"], "in/match.json' is not a correction"),
        (
            ["in/match.srt", "--from", "in/match.json", "--to", "json"],
            "would take the place of the input 'in/match.json'",
        ),
        (
            ["in/match.srt", "in/b.vtt", "--from", "in/match.json", "--to", "json"],
            "2 files cannot all correct 'in/match.json'",
        ),
        (["in/match.srt", "--from", "gone.json", "--to", "json"], "'gone.json' does not exist"),
    ],
)
def test_wrong_usage_of_corrected_subtitles_is_refused(arguments: list[str], reason: str) -> None:
    Path("in/match.srt").write_text(render(TWO, "srt"))
    Path("in/b.vtt").write_text(render(TWO, "vtt"))
    before = files()
    result = run(*arguments)
    assert (result.exit_code, files()) == (2, before)
    assert reason in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["in/match.json"], "Missing option '--to'"),
        (["--to", "srt"], "Missing argument 'RESULT...'"),
        (["in/match.json", "--to", "docx"], "'docx' is not a known format; choose from srt"),
        (["in/match.json", "--to", "json"], "would take the place of the input 'in/match.json'"),
        (["in/match.json", "--to", "srt,vtt", "-o", "-"], "name one with --to"),
        (["in/match.json", "--to", "srt", "-o", "-", "--overwrite"], "-o - writes no file"),
        (["in", "--recursive", "--to", "srt", "-o", "-"], "--to json or jsonl"),
        (["in/match.json", "--to", "srt", "-o", "in/match.json"], "is a file; name a folder"),
        (["in/match.json", "--to", "otio,csv", "--style", "netflix"], "add one of srt, vtt, ass"),
        (["in/match.json", "--to", "csv", "--overlap", "trim"], "to --to"),
        (["in/match.json", "--to", "srt", "--min-duration", "0"], "must be above 0 seconds"),
        (["in/match.json", "--to", "srt", "--max-line-count", "2"], "needs max_line_width"),
        (["in/match.json", "--to", "srt", "--summary", "in/match.srt"], "place of the file"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(
    arguments: list[str], reason: str
) -> None:
    before = files()
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
    assert files() == before


def test_two_results_that_would_be_one_file_are_refused() -> None:
    TWO.save("other/match.json")
    result = run("in/match.json", "other/match.json", "--to", "srt", "-o", "out")
    assert result.exit_code == 2
    assert "place of what is made of 'in/match.json'" in " ".join(result.stderr.split())


def test_a_missing_package_is_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    before = files()
    result = run("in/match.json", "--to", "srt,ass")
    assert (result.exit_code, files()) == (1, before)
    assert "ass needs the package pysubs2" in result.stderr


def test_it_loads_no_torch() -> None:
    code = "import sys\nfrom vidground.cli.main import cli\n"
    code += "cli(['convert', 'in/match.json', '--to', 'srt,fcpxml'], standalone_mode=False)\n"
    code += "sys.exit(bool({'torch', 'transformers', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, Path("in/match.fcpxml").exists()) == (0, True), done.stderr
