"""Parts of a run that several processes or machines share."""

import json
from pathlib import Path

import pytest

from vidground.errors import FormatError, InputError
from vidground.training.evaluation.prediction_store import (
    answered_questions,
    merge_shards,
    open_folder,
    open_shard,
    read_folder,
    remove_predictions,
)
from vidground.training.evaluation.questions import ABSENT, Question
from vidground.training.evaluation.sharding import Shard

SETTINGS = {"model": "toy"}


def question(idx: int, video: str, task: str = "tvg") -> Question:
    fields = {"task": "tvg", "source": "s", "idx": idx, "video": video, "tgt": [0, 1], "q": "when?"}
    return Question(fields, task, "s", idx, video, "when?")


ASKED = [
    question(0, "a.mp4"),
    question(1, "b.mp4"),
    question(2, "a.mp4"),
    question(3, "c.mp4"),
    question(0, "b.mp4", ABSENT),
]


def fill(folder: Path, shard: Shard, *, error: str | None = None) -> list[int]:
    """Answer what a shard waits for; return the numbers."""
    with open_shard(folder, shard, SETTINGS, ASKED) as opened:
        waiting = opened.waiting(shard.take(ASKED))
        for item in waiting:
            opened.append(
                item, {"a": f"answer {item.idx}"} if error is None else {"a": "", "error": error}
            )
    return [item.idx for item in waiting]


def test_every_question_is_in_one_part_with_all_others_on_its_video() -> None:
    for count in (1, 2, 3, 5):
        parts = [Shard(index, count).take(ASKED) for index in range(1, count + 1)]
        assert sorted(q.key for part in parts for q in part) == sorted(q.key for q in ASKED)
        videos = [{q.video for q in part} for part in parts]
        assert sum(map(len, videos)) == len(set().union(*videos))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "1", "a/b", "-1/2", "1/2/3"])
def test_other_parts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="shard is"):
        Shard.parse(text)


def test_parts_are_read_as_one_run_and_merged_in_the_order_of_videos(tmp_path: Path) -> None:
    assert fill(tmp_path, Shard(1, 2)) == [0, 2, 3]
    stored = read_folder(tmp_path)
    assert (stored.samples, stored.absent, len(stored.predictions)) == (4, 1, 3)
    assert fill(tmp_path, Shard(2, 2)) == [1, 0]
    assert answered_questions(tmp_path, ASKED) == 5
    merge_shards(tmp_path, ASKED)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["idx"] for line in lines] == [0, 2, 1, 3]
    assert not (tmp_path / "shards").exists()
    assert answered_questions(tmp_path, ASKED) == 5
    with open_folder(tmp_path, SETTINGS, ASKED) as opened:
        assert opened.waiting(ASKED) == []


def test_a_run_continues_with_another_number_of_parts(tmp_path: Path) -> None:
    assert fill(tmp_path, Shard(1, 2)) == [0, 2, 3]
    assert [fill(tmp_path, Shard(index, 3)) for index in (1, 2, 3)] == [[], [1, 0], []]
    assert answered_questions(tmp_path, ASKED) == 5


def test_failed_questions_stay_until_another_part_answers_them(tmp_path: Path) -> None:
    fill(tmp_path, Shard(1, 1), error="no such file")
    merge_shards(tmp_path, ASKED)
    assert all("error" in line for line in read_folder(tmp_path).predictions)
    assert answered_questions(tmp_path, ASKED) == 0
    assert fill(tmp_path, Shard(1, 1)) == [0, 2, 1, 0, 3]
    assert not any("error" in line for line in read_folder(tmp_path).predictions)
    merge_shards(tmp_path, ASKED)
    assert answered_questions(tmp_path, ASKED) == 5


def test_parts_with_other_settings_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, Shard(1, 2))
    with (
        pytest.raises(InputError, match="model 'toy', now 'other'"),
        open_shard(tmp_path, Shard(2, 2), {"model": "other"}, ASKED),
    ):
        pass
    header = tmp_path / "shards" / "1-of-2" / "run.json"
    fill(tmp_path, Shard(2, 2))
    header.write_text(header.read_text().replace("toy", "other"))
    with pytest.raises(FormatError, match="made with other settings"):
        read_folder(tmp_path)


def test_a_part_in_use_is_neither_merged_nor_removed(tmp_path: Path) -> None:
    with open_shard(tmp_path, Shard(1, 2), SETTINGS, ASKED) as opened:
        opened.append(ASKED[0], {"a": "answer"})
        for refused in (
            lambda: merge_shards(tmp_path, ASKED),
            lambda: remove_predictions(tmp_path),
            lambda: fill(tmp_path, Shard(1, 2)),
        ):
            with pytest.raises(InputError, match="another process is writing"):
                refused()
    assert answered_questions(tmp_path, ASKED) == 1
    remove_predictions(tmp_path)
    assert answered_questions(tmp_path, ASKED) == 0
