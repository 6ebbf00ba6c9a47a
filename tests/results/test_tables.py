"""Chapters: by hand, and as FFmpeg reads them and writes them into files; YouTube's rules."""

import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given, settings

from tests.helpers.paths import ROOT
from tests.helpers.result_makers import VIDEO, any_events, captions, expected
from vidground.media.ffmpeg import find_program
from vidground.results.formats import render
from vidground.results.types import Captions, Event


def chapters_of(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """The chapters of a file in seconds, as FFmpeg's library reads them."""
    with av.open(str(path)) as container:
        return [
            (
                chapter["start"] * chapter["time_base"],
                chapter["end"] * chapter["time_base"],
                chapter["metadata"]["title"].removesuffix(" "),
            )
            for chapter in container.chapters()
        ]


def test_chapters_by_hand() -> None:
    result = captions(Event(1.5, 4.0, "b = c; #1 \\"), Event(0.0, 2.0, "a\nb"), Event(5, 6, ""))
    assert render(result, "chapters") == (
        ";FFMETADATA1\n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=a b\n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=4000\ntitle=b \\= c\\; \\#1 \\\\ \n"
        "\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=5000\nEND=6000\ntitle=…\n"
    )
    assert render(captions(), "chapters") == ";FFMETADATA1\n"


def test_chapters_that_begin_together_become_one_and_the_first_begins_at_0(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.chapters"
    events = [Event(2, 9, "one"), Event(2, 5, "two"), Event(4, 12, "three"), Event(4, 6, "three")]
    path.write_text(render(captions(*events), "chapters"), encoding="utf-8")
    assert chapters_of(path) == [(0, 2, "…"), (2, 4, "two / one"), (4, 12, "three")]


@given(any_events(last_s=200 * 3600.0))
@settings(max_examples=30)
def test_ffmpeg_reads_every_event_in_chapters_that_do_not_overlap(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("chapters") / "a.chapters"
    result = captions(*events)
    path.write_text(render(result, "chapters"), encoding="utf-8")
    found = [(round(start * 1000), round(end * 1000), t) for start, end, t in chapters_of(path)]
    assert all(one[1] <= other[0] and one[0] < one[1] for one, other in pairwise(found))
    rows = expected(result, "…")
    assert {start for start, _, _ in found} == {start for start, _, _ in rows} | (
        {0} if rows else set()
    )
    titles = {start: title for start, _, title in found}
    for start, _, text in rows:
        assert text in titles[start]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_ffmpeg_writes_the_chapters_into_a_file(tmp_path: Path, suffix: str) -> None:
    events = [Event(2, 9, "one"), Event(2, 5, "two"), Event(4, 12, "three"), Event(20, 31, "x")]
    path = tmp_path / "a.chapters"
    path.write_text(render(captions(*events), "chapters"), encoding="utf-8")
    made = tmp_path / f"a.{suffix}"
    film = ROOT / "examples" / "film_2.mp4"
    command = [find_program().path, "-v", "error", "-i", film, "-i", path]
    command += ["-map", "0:v", "-map_metadata", "1", "-c", "copy", made]
    subprocess.run([str(part) for part in command], check=True)
    starts = [(start, title) for start, _, title in chapters_of(made)]
    assert starts == [(0, "…"), (2, "two / one"), (4, "three"), (20, "x")]


def long(*events: Event) -> Captions:
    return replace(captions(*events), video=replace(VIDEO, duration_s=7200.0))


def test_youtube_chapters_by_hand() -> None:
    result = long(
        Event(3700.9, 3800, "<late>"),
        Event(12.9, 30, "first"),
        Event(15, 20, "soon after"),
        Event(22.5, 40, "exactly 10 s later"),
        Event(61, 70, "third"),
        Event(70.99, 75, "9 s later"),
        Event(7195, 7200, "in the last ten seconds"),
    )
    assert render(result, "youtube") == (
        "0:00 Start\n"
        "0:12 first / soon after\n"
        "0:22 exactly 10 s later\n"
        "1:01 third / 9 s later\n"
        "1:01:40 \u2039late\u203a / in the last ten seconds\n"
    )


def test_youtube_chapters_of_an_opening_event_need_no_other_title() -> None:
    result = long(Event(4, 9, "a"), Event(100, 200, "b"), Event(300, 400, ""))
    assert render(result, "youtube") == "0:00 a\n1:40 b\n5:00 …\n"


def test_too_few_youtube_chapters_are_reported_in_the_text() -> None:
    note, *lines = render(long(Event(1, 9, "a"), Event(8, 40, "b")), "youtube").splitlines()
    assert "Fewer than 3 chapters of 10 s or more" in note
    assert lines == ["0:01 a", "0:08 b"]
    assert render(long(), "youtube") == ""


@given(any_events(last_s=7200.0))
@settings(max_examples=100)
def test_youtube_rules_hold(events: list[Event]) -> None:
    result = long(*[Event(e.start_s, min(e.end_s, 7200.0), e.text) for e in events])
    lines = render(result, "youtube").splitlines()
    assert not set("<>") & set("".join(lines))
    if lines and lines[0].startswith("(Fewer"):
        assert len(lines) == len(events) + 1
        return
    times = [line.split(" ")[0] for line in lines]
    starts = [sum(int(part) * 60**i for i, part in enumerate(t.split(":")[::-1])) for t in times]
    assert starts[:1] in ([], [0])
    assert all(later - start >= 10 for start, later in pairwise([*starts, 7200]))
    assert len(starts) not in {1, 2}
