"""Which questions are posed, and what is refused before any model is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from vidground.errors import InputError
from vidground.training.evaluation.questions import (
    ABSENT,
    by_video,
    load_absent,
    load_questions,
)

TVG: dict[str, Any] = {
    "task": "tvg",
    "source": "toy",
    "idx": 0,
    "video": "videos/a.mp4",
    "duration": 20.0,
    "tgt": [1, 2],
    "q": "when?",
}
RVQ = TVG | {"task": "rvq", "o": ["x", "y"], "p": 1, "q": "what in <evi>?", "src": [3, 4.5]}


def write(path: Path, *samples: Any) -> Path:
    path.write_text(json.dumps(samples))
    return path


def test_a_file_or_all_files_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "b.json", TVG, TVG | {"idx": 1, "video": "videos/b.mp4"})
    first = write(tmp_path / "a.json", RVQ)
    (tmp_path / "notes.txt").write_text("no JSON")
    found = load_questions(tmp_path)
    assert [q.key for q in found] == [("rvq", "toy", 0), ("tvg", "toy", 0), ("tvg", "toy", 1)]
    assert load_questions(first) == found[:1]
    assert found[0].spans_s == ((3.0, 4.5),)
    assert found[1].spans_s == ()
    assert (found[1].fields, found[1].text, found[1].video) == (TVG, "when?", "videos/a.mp4")
    assert {v: [q.key for q in asked] for v, asked in by_video(found).items()} == {
        "videos/a.mp4": [("rvq", "toy", 0), ("tvg", "toy", 0)],
        "videos/b.mp4": [("tvg", "toy", 1)],
    }


def test_tasks_and_limits(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", *(TVG | {"idx": i} for i in range(3)), RVQ)
    assert [q.key[0] for q in load_questions(file, tasks=["rvq"])] == ["rvq"]
    assert [(q.task, q.idx) for q in load_questions(file, limit=2)] == [
        ("tvg", 0),
        ("tvg", 1),
        ("rvq", 0),
    ]
    for options, reason in (
        ({"tasks": ["dvc"]}, "no samples of dvc"),
        ({"tasks": ["tvgg"]}, "task is 'tvgg'"),
        ({"limit": 0}, "limit is 0"),
    ):
        with pytest.raises(InputError, match=reason):
            load_questions(file, **options)  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize(
    ("src", "text", "spans"),
    [
        ([5], "<evi>", ((5.0, 5.0),)),
        (5.5, "<evi>", ((5.5, 5.5),)),
        ([1, 2, 3, 4], "<evi> or <evi>?", ((1.0, 2.0), (3.0, 4.0))),
        ([[1, 2], [3, 4]], "<evi> or <evi>?", ((1.0, 2.0), (3.0, 4.0))),
        ([1, 2], "told in words, at 1 - 2", ()),
        (None, "what?", ()),
    ],
)
def test_intervals_of_the_question(
    tmp_path: Path, src: Any, text: str, spans: tuple[tuple[float, float], ...]
) -> None:
    file = write(tmp_path / "a.json", RVQ | {"src": src, "q": text})
    assert load_questions(file)[0].spans_s == spans


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"q": " "}, "q is ' '"),
        ({"q": "<evi>"}, "q holds 1 <evi> and src 0 seconds"),
        ({"q": "<evi>", "src": [1, 2, 3]}, "q holds 1 <evi> and src 3 seconds"),
        ({"q": "<evi>", "src": ["a", 2]}, "src holds 'a'"),
        ({"video": "../a.mp4"}, "stays inside"),
        ({"video": "/a.mp4"}, "stays inside"),
        ({"task": "rvc"}, "task is 'rvc'"),
        ({"tgt": [[1, 2]]}, "tgt holds"),
        ({"idx": "0"}, "idx is '0'"),
    ],
)
def test_a_wrong_sample_is_named(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    file = write(tmp_path / "a.json", RVQ, TVG | changed)
    with pytest.raises(InputError, match=r"a\.json\[1\]: ") as error:
        load_questions(file)
    assert reason in str(error.value)


def test_files_in_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for path, reason in (
        (tmp_path / "a.json", "holds a dict"),
        (tmp_path / "deep.json", "nested too deeply"),
        (tmp_path / "none.json", "no such file"),
        (write(tmp_path / "b.json"), "holds no samples"),
        (write(tmp_path / "c.json", 3), "is a int"),
        (write(tmp_path / "d.json", TVG, TVG), "holds tvg toy idx 0 2 times"),
    ):
        with pytest.raises(InputError, match=reason):
            load_questions(path)


def test_queries_for_absent_events_have_no_target(tmp_path: Path) -> None:
    query = {k: v for k, v in TVG.items() if k != "tgt"} | {"differs": "color"}
    file = write(tmp_path / "absent.json", query, query | {"idx": 1})
    found = load_absent(file, limit=1)
    assert [q.key for q in found] == [(ABSENT, "toy", 0)]
    assert found[0].fields == query
    with pytest.raises(InputError, match="has no field 'tgt'"):
        load_questions(file)
    with pytest.raises(InputError, match="holds no queries"):
        load_absent(write(tmp_path / "none.json"))


def test_predictions_can_be_annotations_again(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", TVG | {"a": "1 - 2", "found": True, "moments": []})
    assert load_questions(file)[0].fields == TVG
