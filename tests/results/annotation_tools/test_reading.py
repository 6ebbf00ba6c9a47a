"""Files of annotation tools are told by name and content, and bounded in size."""

from pathlib import Path

import pytest

from tests.helpers.result_makers import captions
from vidground.errors import FormatError
from vidground.results import subtitle_reading
from vidground.results.annotation_tools import reading
from vidground.results.annotation_tools.reading import read_annotated
from vidground.results.formats import save
from vidground.results.types import Event

RESULT = captions(Event(0.0, 1.24, "a man\nsits"), Event(2.0, 4.48, "5 < 6"))
SEEN = (Event(0.0, 1.24, "a man sits"), Event(2.0, 4.48, "5 < 6"))


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.eaf", "a.via.json", "A.EAF"])
def test_what_is_written_comes_back(tmp_path: Path, name: str) -> None:
    save(RESULT, tmp_path / name)
    (video,) = read_annotated(tmp_path / name)
    assert video.events == SEEN
    assert video.is_about("in/match.mp4")


def test_a_cue_without_text_is_an_event_without_text(tmp_path: Path) -> None:
    save(captions(Event(0.0, 1.0, " ")), tmp_path / "a.srt")
    assert read_annotated(tmp_path / "a.srt")[0].events == (Event(0.0, 1.0, ""),)


def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "bytes.eaf").write_bytes(b"\xff\xfe")
    (tmp_path / "a.docx").write_text("x")
    for name, reason in (
        ("a.json", "a.json'?: is not JSON"),
        ("bytes.eaf", "bytes.eaf'?: cannot be read"),
        ("gone.srt", "gone.srt'?: no such file"),
        ("a.docx", r"a.docx'?: is not a known annotation file; .* \.srt, \.vtt, \.eaf, \.csv"),
    ):
        with pytest.raises(FormatError, match=reason):
            read_annotated(tmp_path / name)
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    monkeypatch.setattr(subtitle_reading, "MOST_BYTES", 10)
    for name in ("large.srt", "large.eaf"):
        (tmp_path / name).write_text("x" * 11)
        with pytest.raises(FormatError, match="11 bytes; files of this kind are read up to 10"):
            read_annotated(tmp_path / name)
