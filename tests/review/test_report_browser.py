"""The report in a browser: the player follows events, filters filter, hostile text stays text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.chromium import PROGRAM, Page, open_page
from tests.helpers.result_makers import VIDEO, answer, captions
from tests.helpers.video_files import make_video
from vidground.results.types import Event, Groundings, Moment, Relevance
from vidground.review.report import write_report
from vidground.video.info import VideoInfo

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")

DURATION_S = 30.0
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script><b>bold</b>"
HOSTILE_NAME = "<svg onload=alert(3)> #50% & 'a\" ?.webm"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films with results: first.webm, and one with a hostile name and caption."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("first.webm", HOSTILE_NAME):
        # VP8, which every build of the browser plays.
        make_video(folder / name, codec="libvpx", frames=150, fps=5, bframes=0)
    first, second = video(folder, "first.webm"), video(folder, HOSTILE_NAME)
    events = (
        Event(2, 5, "A Café opens", 0.9),
        Event(8, 12, "A dog runs", 0.4),
        Event(20, 28, "Rain falls on the dog"),
    )
    replace(captions(*events), video=first).save(folder / "1.json")
    curve = Relevance(tuple(map(float, range(30))), tuple(i / 30 for i in range(30)))
    goal = answer("a goal", Moment(15, 18, 0.7), video=first, relevance=curve)
    none = answer("a card", video=first, relevance=curve)
    Groundings((goal, none)).save(folder / "1.query.json")
    replace(captions(Event(10, 11, HOSTILE, 0.5)), video=second).save(folder / "2.json")
    asked = Groundings((answer(HOSTILE, Moment(3, 4, 0.6), video=second, answer=HOSTILE),))
    asked.save(folder / "2.query.json")
    results = [folder / f"{name}.json" for name in ("1", "1.query", "2", "2.query")]
    write_report(results, folder / "report.html")
    return folder


def video(folder: Path, name: str) -> VideoInfo:
    path = folder / name
    size = path.stat().st_size if path.exists() else 1
    return replace(VIDEO, path=str(path), size_bytes=size, duration_s=DURATION_S, codec="vp8")


@pytest.fixture
def page(browser: Page, folder: Path) -> Iterator[Page]:
    browser.load(folder / "report.html")
    browser.wait("document.getElementById('player').readyState >= 1")
    yield browser
    assert browser.problems == []
    left = [url for url in browser.requests if not url.startswith(("data:", "blob:", "file:"))]
    assert left == []


def time_of(page: Page) -> float:
    page.wait("!document.getElementById('player').seeking")
    return float(page.evaluate("document.getElementById('player').currentTime"))


def texts(page: Page, selector: str = "#list .text") -> list[str]:
    rows: list[str] = page.evaluate(
        f"[...document.querySelectorAll({selector!r})].map((e) => e.textContent)"
    )
    return rows


def text(page: Page, name: str) -> Any:
    return page.evaluate(f"document.getElementById({name!r}).textContent")


def type_in(page: Page, words: str) -> None:
    page.click("#search")
    page.evaluate("document.getElementById('search').select()")
    if words:
        page.send("Input.insertText", text=words)
    else:
        page.evaluate("document.execCommand('delete')")


def test_a_click_on_an_event_moves_the_player(page: Page) -> None:
    assert time_of(page) == 0
    page.click("#list .row", count=1)
    assert texts(page, "#list .row.selected .text") == ["A dog runs"]
    assert time_of(page) == pytest.approx(8, abs=0.05)
    assert text(page, "now") == "A dog runs"
    page.click("#timeline .event:not(.moment)", count=2)
    assert time_of(page) == pytest.approx(20, abs=0.05)
    assert texts(page, "#list .row.selected .text") == ["Rain falls on the dog"]
    page.click("#timeline .moment")
    assert time_of(page) == pytest.approx(15, abs=0.05)


def test_a_click_beside_the_events_moves_the_player_there(page: Page) -> None:
    page.click("#timeline .lane")  # the middle of the row of captions, where there is none
    assert time_of(page) == pytest.approx(DURATION_S / 2, abs=0.1)


def test_an_event_of_another_video_loads_it_first(page: Page) -> None:
    page.click("#list .row", count=5)
    page.wait("document.getElementById('player').readyState >= 1")
    assert time_of(page) == pytest.approx(10, abs=0.05)
    assert text(page, "video-name") == HOSTILE_NAME
    assert page.evaluate("document.getElementById('player').error") is None
    assert page.evaluate("document.getElementById('message').hidden") is True


def test_search_and_score_filter_the_list_and_the_timeline(page: Page) -> None:
    everything = ["A Café opens", "A dog runs", "a goal", "Rain falls on the dog", *[HOSTILE] * 2]
    assert texts(page) == everything
    type_in(page, "DOG")
    assert texts(page) == ["A dog runs", "Rain falls on the dog"]
    assert text(page, "status") == "2 of 6 events"
    assert page.evaluate("document.querySelectorAll('#timeline .event.off').length") == 2
    type_in(page, "cafe a")
    assert texts(page) == ["A Café opens"]
    type_in(page, "first.webm falls")
    assert texts(page) == ["Rain falls on the dog"]
    type_in(page, "")
    score = "const s = document.getElementById('score'); s.value = '0.6';"
    page.evaluate(f"(() => {{ {score} s.dispatchEvent(new Event('input')); }})()")
    assert texts(page) == ["A Café opens", "a goal", HOSTILE]


def test_keys_step_through_what_is_shown_and_play(page: Page) -> None:
    type_in(page, "dog")
    page.press("Escape")
    page.press("j")
    assert time_of(page) == pytest.approx(8, abs=0.05)
    page.press("ArrowDown")
    assert time_of(page) == pytest.approx(20, abs=0.05)
    page.press("j")  # there is none after the last
    assert time_of(page) == pytest.approx(20, abs=0.05)
    page.press("k")
    page.press("ArrowRight")
    assert time_of(page) == pytest.approx(13, abs=0.05)
    page.press("/")
    page.press("j")
    assert page.evaluate("document.getElementById('search').value") == "j"
    page.press("Escape")
    page.press(" ")
    page.wait("!document.getElementById('player').paused")
    page.press(" ")
    page.wait("document.getElementById('player').paused")


def test_the_timeline_zooms_around_the_playhead(page: Page) -> None:
    width = "document.querySelector('#timeline > svg').getBoundingClientRect().width"
    whole = page.evaluate(width)
    place = "document.querySelector('.playhead').getBoundingClientRect().x - "
    place += "document.getElementById('timeline').getBoundingClientRect().x"
    page.click("#list .row", count=1)  # 8 of 30 seconds
    page.press("+")
    assert page.evaluate(place) == pytest.approx(whole / 2, abs=2)
    page.click("#zoom-in")
    assert page.evaluate(width) == pytest.approx(4 * whole)
    assert text(page, "zoom-shown") == "4\u00d7"
    assert page.evaluate(place) == pytest.approx(whole / 2, abs=2)
    name = page.evaluate("document.querySelector('#timeline .name').getBoundingClientRect().x")
    left = page.evaluate("document.getElementById('timeline').getBoundingClientRect().x")
    assert name == pytest.approx(left, abs=2)  # labels stay in sight
    page.press("j")
    assert time_of(page) == pytest.approx(15, abs=0.05)
    assert 0 <= page.evaluate(place) <= whole
    page.press("-")
    page.press("-")
    page.press("-")
    assert page.evaluate(width) == pytest.approx(whole)


def test_without_its_video_a_report_still_steps_through_time(browser: Page, tmp_path: Path) -> None:
    events = (Event(1, 2, "a"), Event(3, 4, "b"))
    replace(captions(*events), video=video(tmp_path, "gone.mp4")).save(tmp_path / "g.json")
    write_report([tmp_path / "g.json"], tmp_path / "r.html")
    browser.load(tmp_path / "r.html")
    browser.click("#list .row", count=1)
    browser.press("+")
    assert text(browser, "now") == "b"
    browser.press("ArrowRight")
    assert str(text(browser, "clock")).startswith("0:08.0")


def test_curves_say_what_was_found(page: Page) -> None:
    shown = " | ".join(texts(page, "#timeline text"))
    assert "1 moment, best 0.70" in shown
    assert "not found: the answer refers to no moment that scores 0.50 or more" in shown
    assert page.evaluate("document.querySelectorAll('#timeline .curve').length") == 2


def test_hostile_text_stays_text(page: Page) -> None:
    page.click("#list .row", count=5)
    page.wait("document.getElementById('player').readyState >= 1")
    page.click("#details summary")
    page.click("#tab-videos")
    assert texts(page) == ["first.webm", HOSTILE_NAME]
    page.click("#list .video", count=1)
    assert texts(page) == [HOSTILE, HOSTILE]
    assert HOSTILE in text(page, "facts")
    assert texts(page, "#scope bdi") == [HOSTILE_NAME]
    page.click("#list .row")
    page.wait("document.getElementById('now').textContent !== ''")
    assert text(page, "now") == HOSTILE
    inside = "#list, #stage, #filters"
    wrong = "[onerror], [onload], [src='x'], script, b"
    count = f"[...document.querySelectorAll({inside!r})].flatMap((e) => [...e.querySelectorAll"
    assert page.evaluate(f"{count}({wrong!r})]).length") == 0
    assert page.evaluate("document.scripts.length") == 2


def test_the_policy_refuses_all_requests(browser: Page, folder: Path) -> None:
    browser.load(folder / "report.html")
    tried = browser.evaluate(
        "(() => { window.ran = 0; const s = document.createElement('script');"
        "s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        "fetch('http://127.0.0.1:9/').catch(() => { window.refused = true; });"
        "return window.ran; })()"
    )
    assert tried == 0
    browser.wait("window.refused === true")
    refusals = " ".join(problem for problem in browser.problems if "Security Policy" in problem)
    for directive in ("script-src 'sha256-", "img-src data:", "connect-src 'none'"):
        assert directive in refusals


def test_the_theme_follows_the_system_until_one_is_chosen(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for name in ("light", "dark"):
        scheme = {"name": "prefers-color-scheme", "value": name}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        seen[name] = page.evaluate(colour)
    assert seen["light"] != seen["dark"]
    page.click("#theme")
    page.click("#theme")
    assert text(page, "theme") == "Theme: light"
    assert page.evaluate(colour) == seen["light"]


def test_a_missing_or_unplayable_video_is_reported(browser: Page, folder: Path) -> None:
    replace(captions(Event(1, 2, "a")), video=video(folder, "gone.mp4")).save(folder / "g.json")
    (folder / "odd.mkv").write_bytes(b"\0" * 1000)
    replace(captions(Event(1, 2, "b")), video=video(folder, "odd.mkv")).save(folder / "o.json")
    write_report([folder / "g.json", folder / "o.json"], folder / "bad.html")
    browser.load(folder / "bad.html")
    assert "gone.mp4 was not found" in text(browser, "message-text")
    node = browser.send("Runtime.evaluate", expression="document.getElementById('file')")
    chosen = {"files": [str(folder / "first.webm")], "objectId": node["result"]["objectId"]}
    browser.click("#list .row")
    browser.send("DOM.setFileInputFiles", **chosen)
    browser.wait("document.getElementById('player').readyState >= 1")
    assert time_of(browser) == pytest.approx(1, abs=0.05)
    assert "times may not match" in text(browser, "notes")
    browser.click("#list .row", count=1)
    browser.wait("!document.getElementById('message').hidden")
    assert "cannot play" in text(browser, "message-text")
    assert "odd.mkv" in text(browser, "message-text")


def test_an_archive_of_thousands_is_paged(browser: Page, tmp_path: Path) -> None:
    events = tuple(Event(i / 10, i / 10 + 0.1, f"event {i} of many") for i in range(30))
    for index in range(100):
        info = replace(VIDEO, path=f"{index:03}.mp4", size_bytes=index + 1, duration_s=4.0)
        replace(captions(*events), video=info).save(tmp_path / f"{index:03}.json")
    write_report(sorted(tmp_path.glob("*.json")), tmp_path / "r.html")
    browser.load(tmp_path / "r.html")
    assert text(browser, "counts") == "100 videos · 3,000 events"
    assert len(texts(browser)) == 50
    assert text(browser, "page-shown") == "Page 1 of 60"
    browser.click("#page-last")
    assert texts(browser, "#list .from")[-1] == "099.mp4"
    assert text(browser, "page-shown") == "Page 60 of 60"
    browser.press("j")  # nothing is selected yet, so the first one
    assert text(browser, "page-shown") == "Page 1 of 60"
    type_in(browser, "event 29 042.mp4")
    assert texts(browser) == ["event 29 of many"]
    type_in(browser, "")
    browser.click("#tab-videos")
    assert text(browser, "status") == "100 videos"
    browser.click("#page-on")
    assert texts(browser)[0] == "050.mp4"
    browser.click("#list .row")
    assert text(browser, "status") == "30 events"
    browser.click("#scope")
    assert text(browser, "status") == "3,000 events"
    assert browser.problems == []
