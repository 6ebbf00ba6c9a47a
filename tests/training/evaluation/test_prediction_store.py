"""A folder of predictions survives being killed, and never mixes what does not belong together."""

import json
from pathlib import Path
from typing import Any

import pytest

from vidground.errors import FormatError, InputError
from vidground.training.evaluation.prediction_lines import ABSENT_PREDICTIONS, HEADER, PREDICTIONS
from vidground.training.evaluation.prediction_store import open_folder, read_folder
from vidground.training.evaluation.questions import ABSENT, Question

SETTINGS = {"model": "toy", "weights": "ab", "sampling": {"fps": 1.0}, "pair": (1, 2)}


def question(idx: int, task: str = "tvg", text: str = "when?") -> Question:
    fields = {"task": "tvg", "source": "s", "idx": idx, "video": "v.mp4", "tgt": [0, 1], "q": text}
    return Question(fields, task, "s", idx, "v.mp4", text)


ASKED = [question(0), question(1), question(0, ABSENT), question(2)]


def fill(folder: Path, asked: list[Question], **options: Any) -> list[Question]:
    """Answer what is waiting; return it."""
    with open_folder(folder, options.pop("settings", SETTINGS), asked, **options) as opened:
        waiting = opened.waiting(asked)
        for item in waiting:
            opened.append(item, {"a": f"answer {item.idx}"})
        assert opened.waiting(asked) == []
    return waiting


def test_answered_questions_are_not_asked_again(tmp_path: Path) -> None:
    assert fill(tmp_path / "new" / "folder", ASKED[:2]) == ASKED[:2]
    assert fill(tmp_path / "new" / "folder", ASKED) == ASKED[2:]
    assert fill(tmp_path / "new" / "folder", ASKED[:1]) == []
    stored = read_folder(tmp_path / "new" / "folder")
    assert [line["idx"] for line in stored.predictions] == [0, 1, 2]
    assert stored.predictions[1] == {**ASKED[1].fields, "a": "answer 1"}
    assert (len(stored.absent_predictions), stored.samples, stored.absent) == (1, 3, 1)
    assert stored.settings == json.loads(json.dumps(SETTINGS))


@pytest.mark.parametrize("cut", range(1, 12))
def test_an_incomplete_line_is_made_again(tmp_path: Path, cut: int) -> None:
    fill(tmp_path, ASKED)
    path = tmp_path / PREDICTIONS
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert len(read_folder(tmp_path).predictions) == 2
    assert fill(tmp_path, ASKED) == [ASKED[3]]
    assert path.read_bytes() == whole


def test_failed_questions_are_asked_again_and_stored_once(tmp_path: Path) -> None:
    with open_folder(tmp_path, SETTINGS, ASKED) as opened:
        opened.append(ASKED[0], {"a": "", "error": "no such file"})
        opened.append(ASKED[2], {"a": "", "error": "no such file"})
        opened.append(ASKED[1], {"a": "1 - 2"})
    assert [line.get("error") for line in read_folder(tmp_path).predictions] == [
        "no such file",
        None,
    ]
    assert fill(tmp_path, ASKED) == [ASKED[0], ASKED[2], ASKED[3]]
    assert [line["idx"] for line in read_folder(tmp_path).predictions] == [1, 0, 2]
    assert "error" not in (tmp_path / ABSENT_PREDICTIONS).read_text()


def test_a_line_is_written_as_soon_as_it_is_made(tmp_path: Path) -> None:
    with open_folder(tmp_path, SETTINGS, ASKED) as opened:
        opened.append(ASKED[0], {"a": "\u2028 \x85 \n"})
        stored = read_folder(tmp_path)
        assert stored.predictions[0]["a"] == "\u2028 \x85 \n"
        assert (stored.samples, stored.absent) == (3, 1)
        # A line has no line break of any kind in it, whoever reads it.
        assert len((tmp_path / PREDICTIONS).read_text().splitlines()) == 1


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, ASKED[:1])
    other = SETTINGS | {"weights": "cd", "more": True}
    with pytest.raises(InputError, match=r"weights 'ab', now 'cd', more None, now True"):
        fill(tmp_path, ASKED, settings=other)
    assert len(read_folder(tmp_path).predictions) == 1
    assert fill(tmp_path, ASKED, settings=other, overwrite=True) == ASKED
    assert read_folder(tmp_path).settings["weights"] == "cd"


def test_changed_annotations_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, ASKED)
    with pytest.raises(InputError, match="another question or video as tvg s idx 1"):
        fill(tmp_path, [question(1, text="who?")])


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path, SETTINGS, ASKED),
        pytest.raises(InputError, match="another process is writing"),
        open_folder(tmp_path, SETTINGS, ASKED),
    ):
        pass
    fill(tmp_path, ASKED)  # the lock is gone with its owner


def test_a_folder_of_other_origin_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_text('{"a": ""}\n')
    with pytest.raises(InputError, match=r"no run\.json"):
        fill(tmp_path, ASKED)
    with pytest.raises(FormatError, match=r"holds no run\.json"):
        read_folder(tmp_path)
    assert (tmp_path / PREDICTIONS).read_text() == '{"a": ""}\n'
    (tmp_path / HEADER).write_text("{}")
    with pytest.raises(FormatError, match="not a header of predictions"):
        fill(tmp_path, ASKED)
    assert fill(tmp_path, ASKED, overwrite=True) == ASKED


@pytest.mark.parametrize("line", ["{", "[]", '{"task": "tvg"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    fill(tmp_path, ASKED)
    path = tmp_path / PREDICTIONS
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first}\n{line}\n{rest}")
    with pytest.raises(FormatError, match="line 2 is not"):
        read_folder(tmp_path)
    with pytest.raises(FormatError, match="line 2 is not"):
        fill(tmp_path, ASKED)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError):
        fill(tmp_path / "file", ASKED)
