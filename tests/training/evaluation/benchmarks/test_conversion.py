"""Other benchmarks' annotations as samples that are posed and scored like E.T. Bench's."""

import json
from pathlib import Path
from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.charades import score_charades
from vidground.training.evaluation.benchmarks.conversion import convert_charades, convert_youcook2
from vidground.training.evaluation.benchmarks.youcook2 import score_youcook2
from vidground.training.evaluation.questions import load_questions

VIDEO: dict[str, Any] = {
    "duration": 241.62,
    "subset": "validation",
    "recipe_type": "113",
    "annotations": [
        {"segment": [90, 102], "id": 0, "sentence": "spread margarine on two slices of bread"},
        {"segment": [114, 127], "id": 1, "sentence": "place a slice of cheese "},
    ],
}
STEP, NAN = VIDEO["annotations"][0], float("nan")


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_charades(tmp_path: Path) -> None:
    lines = "3MSZA 24.3 30.4##person turn a light on.\n\nI9EXP 9 0.0##the man's ## sign\r\n"
    samples = convert_charades(write(tmp_path / "test.txt", lines))
    assert samples[0] == {
        "version": 1.0,
        "idx": 0,
        "task": "tvg",
        "source": "charades_sta",
        "video": "3MSZA.mp4",
        "tgt": [24.3, 30.4],
        "q": "You are given a video about indoor activities. Watch the video carefully and find a "
        "visual event described by the sentence: 'person turn a light on'. The format of your "
        "response should be: 'The event happens in <start time> - <end time>'.",
    }
    assert (samples[1]["idx"], samples[1]["tgt"]) == (1, [0.0, 9.0])
    assert "'the man's ## sign'" in samples[1]["q"]
    load_questions(write(tmp_path / "samples.json", samples))
    answers = [sample | {"a": "</evi> 24.3 - 30.4"} for sample in samples]
    assert score_charades(answers).overlaps == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3MSZA 24.3 30.4##a\n3MSZA 24.3##b\n", "line 2 is '3MSZA 24.3##b'"),
        ("3MSZA 1 2## \n", "line 1"),
        ("\n", "holds no lines"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        convert_charades(write(tmp_path / "test.txt", text))


def test_youcook2(tmp_path: Path) -> None:
    database = {"xHr8X2Wpmno": VIDEO, "other": VIDEO | {"subset": "training"}}
    source = write(tmp_path / "youcook2.json", {"database": database})
    (sample,) = convert_youcook2(source)
    assert {key: sample[key] for key in ("idx", "task", "source", "video", "duration")} == {
        "idx": 0,
        "task": "dvc",
        "source": "youcook2",
        "video": "xHr8X2Wpmno.mp4",
        "duration": 241.62,
    }
    assert sample["tgt"] == [[90.0, 102.0], [114.0, 127.0]]
    assert sample["g"] == ["spread margarine on two slices of bread", "place a slice of cheese"]
    assert "densly describe all the cooking steps" in sample["q"]
    load_questions(write(tmp_path / "samples.json", [sample]))
    told = "</evi>90 - 102, spread margarine. 114 - 127, place a slice of cheese."
    assert score_youcook2([sample | {"a": told}]).f1 == 1.0
    assert [s["video"] for s in convert_youcook2(source, subset="training")] == ["other.mp4"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ([], "holds no 'database'"),
        ({"database": {"v": {}}}, "holds no 'database' of videos with a 'subset'"),
        ({"database": {"v": VIDEO | {"subset": "testing"}}}, "no videos of subset 'validation'"),
        ({"database": {"v": VIDEO | {"annotations": []}}}, "v: has no annotations"),
        ({"database": {"v": VIDEO | {"annotations": [{"segment": [1]}]}}}, "v: annotation"),
        (
            {"database": {"v": VIDEO | {"annotations": [STEP | {"sentence": None}]}}},
            "v: annotation",
        ),
        ({"database": {"v": VIDEO | {"annotations": [STEP | {"segment": [1, NAN]}]}}}, "v: annot"),
        ({"database": {"v": VIDEO | {"annotations": ["a step"]}}}, "v: annotation 'a step' has no"),
        ({"database": {"v": VIDEO | {"duration": None}}}, "v: duration is None"),
        ({"database": {"v": VIDEO | {"duration": NAN}}}, "v: duration is nan"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        convert_youcook2(write(tmp_path / "y.json", content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        convert_charades(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not UTF-8"):
        convert_charades(tmp_path / "bytes")
