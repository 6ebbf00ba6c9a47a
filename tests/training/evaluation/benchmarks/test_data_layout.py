"""Annotations and videos in a benchmark's folder."""

from pathlib import Path

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.data_layout import (
    DataLayout,
    find_annotations,
    find_videos,
    missing_videos,
    refuse_missing,
)
from vidground.training.evaluation.questions import Question

LAYOUT = DataLayout(("b.json", "a.json"), ("small", "large"), "example.org")


def question(idx: int, video: str) -> Question:
    return Question({"idx": idx, "video": video}, "tvg", "s", idx, video, "when?")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_first_annotations_that_exist_are_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no annotations; needed are annotations: b\.json or"):
        find_annotations(LAYOUT, tmp_path)
    touch(tmp_path / "a.json")
    assert find_annotations(LAYOUT, tmp_path) == tmp_path / "a.json"
    touch(tmp_path / "b.json")
    assert find_annotations(LAYOUT, tmp_path) == tmp_path / "b.json"


def test_the_folder_with_most_videos_is_taken_and_other_suffixes_are_found(tmp_path: Path) -> None:
    asked = [question(0, "x/one.mp4"), question(1, "two.mp4"), question(2, "x/one.mp4")]
    touch(tmp_path / "small" / "x" / "one.mp4")
    assert find_videos(LAYOUT, tmp_path, asked).missing == ("two.mp4",)
    touch(tmp_path / "large" / "x" / "one.webm")
    touch(tmp_path / "large" / "deep" / "down" / "two.mkv")
    found = find_videos(LAYOUT, tmp_path, asked)
    assert found.root == tmp_path / "large"
    assert [q.video for q in found.questions] == ["x/one.webm", "deep/down/two.mkv", "x/one.webm"]
    assert found.questions[1].fields == {"idx": 1, "video": "deep/down/two.mkv"}
    refuse_missing(found)


def test_a_name_that_two_videos_share_is_not_guessed(tmp_path: Path) -> None:
    asked = [question(0, "one.mp4"), question(1, "y/two.mp4"), question(2, "three.mp4")]
    for name in ("x/one.mp4", "y/one.mp4", "x/two.mp4", "three.mp4"):
        touch(tmp_path / "small" / name)
    found = find_videos(LAYOUT, tmp_path, asked)
    assert found.missing == ("one.mp4", "y/two.mp4")
    assert found.left_out == 2
    text = "2 videos are missing (one.mp4, y/two.mp4), with 2 questions"
    assert text in missing_videos(found)
    with pytest.raises(InputError, match="add them, or leave these questions out"):
        refuse_missing(found)


def test_a_folder_without_any_of_the_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder of videos"):
        find_videos(LAYOUT, tmp_path, [question(0, "one.mp4")])
    touch(tmp_path / "small" / "other.mp4")
    with pytest.raises(InputError, match=r"none of the 1 videos, such as one\.mp4"):
        find_videos(LAYOUT, tmp_path, [question(0, "one.mp4")])
