import json
from pathlib import Path
from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.etbench_predictions import load_predictions, read_prediction

TVG: dict[str, Any] = {
    "task": "tvg",
    "source": "charades_sta",
    "idx": 0,
    "video": "a.mp4",
    "duration": 30.5,
    "tgt": [1, 5.5],
    "q": "when?",
    "a": "1 - 5 </evi> 1 - 5",
}
DVC = {**TVG, "task": "dvc", "tgt": [[1, 2], [3, 4]], "g": ["one", "two"]}
RAR = {**TVG, "task": "rar", "o": ["x", "y"], "p": 1, "tgt": None}
VHD = {**TVG, "task": "vhd", "tgt": [[[1, 2]], [[3, 4], [5, 6]]]}


def test_fields_are_read() -> None:
    found = read_prediction(TVG, "x")
    assert (found.task, found.source, found.idx, found.video) == ("tvg", "charades_sta", 0, "a.mp4")
    assert found.targets == ((1.0, 5.5),)
    assert found.response == TVG["a"]
    assert read_prediction(DVC, "x").captions == ("one", "two")
    assert (read_prediction(RAR, "x").options, read_prediction(RAR, "x").right_option) == (2, 1)


def test_highlights_of_all_annotators_are_targets() -> None:
    assert read_prediction(VHD, "x").targets == ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
    flat = {**VHD, "tgt": [[1, 2], [3, 4]]}
    assert read_prediction(flat, "x").targets == ((1.0, 2.0), (3.0, 4.0))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ([], "is a list"),
        ({k: v for k, v in TVG.items() if k != "a"}, "has no field 'a'"),
        ({**TVG, "task": "xyz"}, "task is 'xyz'; must be one of rar"),
        ({**TVG, "a": None}, "a is None; must be text"),
        ({**TVG, "idx": "3"}, "idx is '3'"),
        ({**TVG, "idx": True}, "idx is True"),
        ({**TVG, "video": 3}, "video is 3"),
        ({**TVG, "duration": 0}, "duration is 0"),
        ({**TVG, "duration": 10**400}, "duration is 1000"),
        ({**TVG, "tgt": [[1, 5]]}, "must be \\[start, end\\]"),
        ({**TVG, "tgt": [1, float("nan")]}, "must be \\[start, end\\]"),
        ({**TVG, "tgt": [5, 1]}, "must not end before it starts"),
        ({**DVC, "tgt": []}, "needs a list of"),
        ({**DVC, "tgt": [1, 2]}, "must be \\[start, end\\]"),
        ({**DVC, "g": ["one"]}, "1 captions for 2 targets"),
        ({**DVC, "g": [1, 2]}, "must be a list of captions"),
        ({**RAR, "p": 2}, "p is 2; must name one of the 2 options"),
        ({**RAR, "o": "xy"}, "must be a list of 2 to 26 options"),
        ({**VHD, "tgt": [[[1, 2]], []]}, None),
    ],
)
def test_wrong_fields_are_named(item: Any, reason: str | None) -> None:
    if reason is None:
        assert read_prediction(item, "here").targets == ((1.0, 2.0),)
        return
    with pytest.raises(InputError, match=f"here: .*{reason}"):
        read_prediction(item, "here")


def test_a_folder_is_read_in_order_and_without_the_scorers_own_files(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps([{**TVG, "idx": 2}]))
    (tmp_path / "a.jsonl").write_text(json.dumps({**TVG, "idx": 1}) + "\n\n")
    (tmp_path / "metrics.json").write_text('{"tvg": {}}')
    (tmp_path / "notes.txt").write_text("nothing")
    assert [item["idx"] for item in load_predictions(tmp_path)] == [1, 2]
    assert load_predictions(tmp_path / "b.json") == [{**TVG, "idx": 2}]


def test_errors_name_the_file_and_the_position(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([TVG, {**TVG, "idx": 1, "a": 5}]))
    with pytest.raises(InputError, match=r"p\.json\[1\]: a is 5"):
        load_predictions(path)
    path.write_text(json.dumps([TVG, TVG]))
    with pytest.raises(InputError, match=r"p\.json\[1\]: .*idx 0, as .*p\.json\[0\] does"):
        load_predictions(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "holds a dict"),
        ("[", "is not JSON"),
        ("[]", "holds no predictions"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_files_that_hold_no_predictions(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        load_predictions(path)


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_predictions(tmp_path / "p.json")
    with pytest.raises(InputError, match="no such file"):
        load_predictions(tmp_path / "missing.json")
