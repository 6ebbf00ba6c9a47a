"""Result files: what names, folders and patterns stand for."""

import json
import os
from pathlib import Path

import pytest

from tests.helpers.result_makers import TWO
from vidground.results.formats import render
from vidground.results.result_files import FoundResults, find_results


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.json", "in/A.JSON", "in/deep/c.json", "in/.hidden.json", "one.txt"):
        put(name, render(TWO, "json"))
    put("in/summary.json", json.dumps({"schema_version": 1, "done": 3}))
    put("in/list.json", "[]")
    put("in/broken.json", '{"schema_version": 1, "kind":')
    put("in/b.srt", "")
    return tmp_path


def put(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def paths(found: FoundResults) -> list[str]:
    return [str(file.path) for file in found.files]


def test_a_folder_stands_for_its_results_and_for_broken_files() -> None:
    found = find_results(["in"])
    assert paths(found) == ["in/A.JSON", "in/b.json", "in/broken.json"]
    assert [str(file.relative) for file in found.files] == ["A.JSON", "b.json", "broken.json"]
    assert [str(path) for path in found.foreign] == ["in/list.json", "in/summary.json"]
    assert found.missing == ()


def test_folders_inside_are_searched_when_asked() -> None:
    found = find_results(["in"], recursive=True)
    assert paths(found)[-1] == "in/deep/c.json"
    assert str(found.files[-1].relative) == "deep/c.json"


def test_a_file_that_is_named_is_taken_whatever_it_is_and_once() -> None:
    found = find_results(["one.txt", "in/summary.json", "./one.txt", "in/.hidden.json"])
    assert paths(found) == ["one.txt", "in/summary.json", "in/.hidden.json"]
    assert str(found.files[1].relative) == "summary.json"


def test_a_pattern_keeps_the_tree_below_its_first_wildcard() -> None:
    found = find_results(["in/**/*.json"])
    assert ("in/deep/c.json", "deep/c.json") in [
        (str(file.path), str(file.relative)) for file in found.files
    ]
    assert paths(find_results(["i?/b.js*"])) == ["in/b.json"]


def test_what_is_not_there_is_told_with_its_reason() -> None:
    Path("empty").mkdir()
    put("other/list.json", "[]")
    found = find_results(["none.json", "*.xyz", "empty", "other", ""])
    assert [str(error) for _, error in found.missing] == [
        "'none.json': no such file; check the path",
        "'*.xyz': no such file; check the path",
        "'empty': no result in this folder; use --recursive to search its subfolders",
        "'other': no result in this folder; use --recursive to search its subfolders",
        "'': no such file; check the path",
    ]


def test_a_pipe_in_a_folder_is_not_waited_for() -> None:
    os.mkfifo("in/pipe.json")
    assert "in/pipe.json" not in paths(find_results(["in"]))
