"""MVBench and Video-MME: their questions, and accuracy by option letter."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.benchmark_folders import videomme_rows, write_json
from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.multiple_choice import (
    Choice,
    choice_questions,
    read_letter,
    score_choices,
)
from vidground.training.evaluation.benchmarks.mvbench import FOLDERS, read_mvbench
from vidground.training.evaluation.benchmarks.videomme import read_videomme

ITEM = {
    "video": "v.mp4",
    "question": "What moves?",
    "candidates": ["a cup", "a door", "a car"],
    "answer": "a door",
    "start": 1.0,
    "end": 2.0,
}


def test_mvbench_questions_have_the_released_form(tmp_path: Path) -> None:
    write_json(tmp_path / "fine_grained_action.json", [ITEM])
    write_json(tmp_path / "action_count.json", [ITEM, ITEM | {"answer": "a car"}])
    first, _, last = found = read_mvbench(tmp_path)
    assert [choice.groups["task"] for choice in found] == ["Fine-grained Action"] + [
        "Action Count"
    ] * 2
    assert first.video == "Moments_in_Time_Raw/videos/v.mp4"
    assert first.text.endswith(
        "select the best option that accurately addresses the question.\n"
        "Question: What moves?\nOptions:\n(A) a cup.\n(B) a door.\n(C) a car.\nBest Option: ("
    )
    assert (first.right, last.right, len(FOLDERS)) == (1, 2, 20)
    # Of equal candidates the released evaluation takes the last one for right.
    write_json(tmp_path / "action_count.json", [ITEM | {"candidates": ["a door"] * 3}])
    assert read_mvbench(tmp_path)[1].right == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"video": None}, "video is None"),
        ({"question": " "}, "question is ' '"),
        ({"candidates": ["a door"]}, "must be a list of 2 to 26"),
        ({"answer": "a bus"}, "must be one of the candidates"),
    ],
)
def test_wrong_fields_of_mvbench_are_named(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    write_json(tmp_path / "action_count.json", [ITEM, ITEM | changed])
    with pytest.raises(InputError, match=rf"action_count\.json\[1\]: .*{reason}"):
        read_mvbench(tmp_path)
    with pytest.raises(InputError, match="holds no task of MVBench"):
        read_mvbench(tmp_path / "none")


def test_videomme_questions_have_the_released_form(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", videomme_rows())
    first, second = read_videomme(tmp_path / "a.json")
    assert first.video == "fFjv93ACGo8.mp4"
    assert first.text == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "How many shapes are there?\nA. One.\nB. Two.\nC. Three.\nD. Four.\nThe best answer is:"
    )
    assert (first.right, second.right) == (2, 0)
    assert first.groups == {
        "duration": "short",
        "domain": "Knowledge",
        "task": "Counting Problem",
    }
    for wrong, reason in (
        ({"answer": "E"}, "must be the letter of an option"),
        ({"answer": "AB"}, "must be the letter of an option"),
        ({"options": "ABCD"}, "options is 'ABCD'"),
        ({"videoID": 3}, "videoID is 3"),
    ):
        write_json(tmp_path / "b.json", [videomme_rows()[0] | wrong])
        with pytest.raises(InputError, match=rf"b\.json\[0\]: .*{reason}"):
            read_videomme(tmp_path / "b.json")


def test_videomme_reads_its_parquet_table(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "test-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(videomme_rows()), file)
    write_json(tmp_path / "a.json", videomme_rows())
    assert read_videomme(file) == read_videomme(tmp_path / "a.json")
    file.write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_videomme(file)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("</evi>(B) a door", 1),
        ("</evi>B", 1),
        ("</evi>B) a door.", 1),
        ("The best answer is: C.", 2),
        ("the correct option is (a)", 0),
        ("Answer: B", 1),
        ("</evi>", None),
        ("a door", 0),  # "a" followed by a space reads as a letter, as it does in E.T. Bench
        ("the door", None),
        ("(E)", None),
    ],
)
def test_letters_are_read_after_the_usual_leads(response: str, letter: int | None) -> None:
    assert read_letter(response, 4) == letter


def test_accuracy_by_hand() -> None:
    choices = [
        Choice("v.mp4", "?", ("x", "y"), right, {"task": task})
        for right, task in ((0, "one"), (1, "one"), (1, "two"), (0, "two"))
    ]
    responses = ("(A)", "(A)", "(B)", "no idea")
    lines = [
        {**question.fields, "a": response}
        for question, response in zip(choice_questions(choices, "mvbench"), responses, strict=True)
    ]
    assert json.loads(json.dumps(lines)) == lines
    scores = score_choices([*lines, {"task": "tvg"}], "mvbench")
    assert (scores.accuracy, scores.failed) == (0.5, 1)
    assert scores.hits.tolist() == [1, 0, 1, 0]
    assert scores.groups == {"task": {"one": (0.5, 2), "two": (0.5, 2)}}
    with pytest.raises(InputError, match="no prediction has task mcq and source videomme"):
        score_choices(lines, "videomme")
    with pytest.raises(InputError, match="a of idx 0 is None"):
        score_choices([lines[0] | {"a": None}], "mvbench")
