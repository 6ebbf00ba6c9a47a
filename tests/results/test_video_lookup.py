"""Where a result's video lies now, and how it is linked to."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import VIDEO
from vidground.results.video_lookup import file_uri, find_video, relative_link

INFO = replace(VIDEO, path="in/match.mp4", size_bytes=4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def put(name: str, content: bytes = b"film") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_video_is_found_from_the_current_folder() -> None:
    assert find_video(INFO) is None
    assert find_video(INFO, result="gone/match.json") is None
    put("in/match.mp4")
    assert find_video(INFO) == Path("in/match.mp4")


@pytest.mark.parametrize("place", ["../run/in/match.mp4", "../run/results/match.mp4"])
def test_a_video_is_found_from_the_folders_above_its_result(place: str) -> None:
    video = put(place)
    found = find_video(INFO, result="../run/results/match.json")
    assert found is not None
    assert found.samefile(video)


def test_a_moved_video_is_found_by_as_much_of_its_path_as_fits() -> None:
    put("disk/match.mp4")
    wanted = put("disk/in/match.mp4")
    assert find_video(INFO, folders=[Path("disk")]) == wanted
    absolute = replace(INFO, path="/no/such/in/match.mp4")
    assert find_video(absolute, folders=[Path("disk")]) == wanted


def test_only_a_regular_file_of_the_recorded_size_counts() -> None:
    put("in/match.mp4", b"another film")
    assert find_video(INFO) is None
    Path("in/match.mp4").unlink()
    os.mkfifo("in/match.mp4")
    assert find_video(INFO) is None
    assert find_video(replace(INFO, path="a\0b"), result="x.json", folders=[Path()]) is None


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))


@given(NAMES, NAMES)
def test_links_lead_back_to_the_file_whatever_its_name(folder: str, name: str) -> None:
    video = str(Path.cwd() / "films" / folder / name)
    page = file_uri("results/report.html")
    for link in (relative_link(video, "results"), file_uri(video)):
        assert link.isascii()
        parts = urlsplit(urljoin(page, link))
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
        assert unquote(parts.path, errors="strict") == video


def test_no_name_of_a_file_is_taken_for_a_scheme() -> None:
    assert relative_link("javascript:alert(1)", ".") == "javascript%3Aalert%281%29"
    assert relative_link("a\udcffb.mp4", "") == "a%FFb.mp4"
