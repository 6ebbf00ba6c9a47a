"""Reports as files: what goes in, what is told of, what is not overwritten."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers.result_makers import VIDEO, answer, captions
from tests.helpers.video_files import make_video
from vidground.cli.main import cli
from vidground.errors import FormatError
from vidground.results.formats import load
from vidground.results.types import Event, Groundings, Moment
from vidground.review.report import is_report, write_report

FAULTY = "tests.helpers.faulty_footage"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds films/a b.mp4 with captions and an answer, and results on a film that is gone."""
    monkeypatch.chdir(tmp_path)
    Path("films").mkdir()
    film = make_video(Path("films/a b.mp4"), frames=40, fps=10)
    here = replace(VIDEO, path="films/a b.mp4", size_bytes=film.stat().st_size, duration_s=4.0)
    replace(captions(Event(0, 2, "one"), Event(2, 4, "two")), video=here).save("out/a b.json")
    Groundings((answer("find", Moment(1, 2, 0.7), video=here),)).save("out/a b.query.json")
    captions(Event(0, 1, "lost")).save("out/z.json")
    return tmp_path


def data_of(path: str | Path) -> list[dict[str, Any]]:
    island = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text()
    )
    assert island
    videos: list[dict[str, Any]] = json.loads(island[1])["videos"]
    return videos


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", *arguments])


def test_results_on_one_video_become_one_entry_with_a_picture_per_event() -> None:
    summary = write_report(["out/a b.json", "out/a b.query.json", "out/z.json"], "new/r.html")
    assert (summary.videos, summary.events, summary.failed) == (2, 4, ())
    assert summary.not_found == ("in/match.mp4",)
    assert summary.size_bytes == Path("new/r.html").stat().st_size
    film, gone = data_of("new/r.html")
    assert film["link"] == "../films/a%20b.mp4"
    assert [event["text"] for event in film["events"]] == ["one", "find", "two"]
    assert all(event["picture"].startswith("/9j/") for event in film["events"])
    assert (gone["link"], "picture" in gone["events"][0]) == (None, False)
    assert is_report("new/r.html")


def test_links_can_be_absolute_and_pictures_left_out(folder: Path) -> None:
    write_report(["out/a b.json"], "r.html", with_thumbnails=False, absolute_links=True)
    (film,) = data_of("r.html")
    assert film["link"] == (folder / "films/a b.mp4").as_uri()
    assert not any("picture" in event for event in film["events"])


def test_a_path_in_a_result_opens_no_other_file(folder: Path) -> None:
    secret = make_video(folder / "private.mp4", frames=20)
    claimed = replace(VIDEO, path=str(secret), size_bytes=1)
    replace(captions(Event(0, 1, "x")), video=claimed).save("evil.json")
    assert write_report(["evil.json"], "r.html").not_found == (str(secret),)
    (row,) = data_of("r.html")
    assert (row["link"], "picture" in row["events"][0]) == (None, False)


def test_a_file_that_is_not_a_video_loses_only_its_pictures() -> None:
    Path("fake.mp4").write_bytes(b"none")
    fake = replace(VIDEO, path="fake.mp4", size_bytes=4)
    replace(captions(Event(0, 1, "x")), video=fake).save("fake.json")
    (note,) = write_report(["fake.json"], "r.html").notes
    assert note.startswith("no thumbnails: 'fake.mp4'")
    assert data_of("r.html")[0]["link"] == "fake.mp4"


def test_pictures_stop_at_the_limit_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    film = shutil.copy("films/a b.mp4", "films/c.mp4")
    info = replace(VIDEO, path=film, size_bytes=Path(film).stat().st_size, duration_s=4.0)
    replace(captions(Event(0, 2, "three")), video=info).save("out/c.json")
    assert write_report(["out/a b.json", "out/c.json"], "r.html").notes == ()
    monkeypatch.setattr("vidground.review.report._MAX_PICTURE_BYTES", 1)
    summary = write_report(["out/a b.json", "out/c.json"], "r.html")
    (note,) = summary.notes
    assert note.startswith("no thumbnails of the last 1 video:")
    events = [event for film in data_of("r.html") for event in film["events"]]
    assert ["picture" in event for event in events] == [True, True, False]


def test_without_any_result_nothing_is_written() -> None:
    Path("bad.json").write_text("{")
    with pytest.raises(FormatError, match=r"no result for the report: 'bad\.json': not JSON"):
        write_report(["bad.json"], "r.html")
    assert not Path("r.html").exists()


def test_progress_counts_videos() -> None:
    seen: list[tuple[int, int]] = []
    told: Callable[[int, int], None] = lambda done, total: seen.append((done, total))  # noqa: E731
    write_report(["out/a b.json", "out/z.json"], "r.html", on_progress=told)
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_the_command_reports_a_broken_file_and_continues() -> None:
    Path("out/broken.json").write_text("{")
    Path("out/run.json").write_text("[]")
    result = run("out", "gone.json", "--title", "My <films>")
    assert result.exit_code == 1
    assert "failed: 'out/broken.json': not JSON" in result.stderr
    assert "failed: 'gone.json': no such file" in result.stderr
    assert "'out/run.json': not a result of vidground; ignored" in result.stderr
    assert "in/match.mp4: the video was not found" in result.stderr
    assert "done: report.html (videos: 2, events: 4" in result.stderr
    assert "<title>My &lt;films&gt;</title>" in Path("report.html").read_text()


def test_a_moved_video_is_found_where_the_command_says() -> None:
    Path("films").rename("moved")
    assert "not found" in run("out/a b.json").stderr
    assert "not found" not in run("out/a b.json", "--videos", "moved").stderr
    assert data_of("report.html")[0]["link"] == "moved/a%20b.mp4"


def test_only_reports_are_replaced_without_asking() -> None:
    assert run("out", "-q").exit_code == run("out", "-q").exit_code == 0
    Path("mine.html").write_text("mine")
    refused = run("out", "-o", "mine.html")
    assert (refused.exit_code, Path("mine.html").read_text()) == (2, "mine")
    assert "is not a report" in refused.stderr
    assert run("out", "-o", "mine.html", "--overwrite").exit_code == 0
    assert is_report("mine.html")
    before = Path("out/z.json").read_bytes()
    assert run("out", "-o", "out/z.json", "--overwrite").exit_code == 2
    assert Path("out/z.json").read_bytes() == before


def test_internal_errors_cost_pictures_or_a_result_and_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vidground.review.thumbnails._OPENER", f"{FAULTY}:FailingMoments")
    shutil.move("films/a b.mp4", "films/bug.mp4")
    text = Path("out/a b.json").read_text().replace("films/a b.mp4", "films/bug.mp4")
    Path("out/a b.json").write_text(text)

    def broken(path: Path) -> Any:
        if Path(path).name == "z.json":
            raise KeyError("no such field")
        return load(path)

    monkeypatch.setattr("vidground.review.report.load", broken)
    result = run("out/a b.json", "out/z.json", "-o", "r.html")
    assert result.exit_code == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert "'out/z.json': internal error: KeyError: 'no such field'" in failed[0]
    assert "bug.mp4': internal error: ZeroDivisionError: a bug" in failed[1]
    assert "damaged" not in result.stderr
    (film,) = data_of("r.html")
    assert [event["text"] for event in film["events"]] == ["one", "two"]
