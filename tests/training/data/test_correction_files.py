"""Corrections from subtitle editors and annotation tools, alone and in folders."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.result_makers import VIDEO, answer, captions
from vidground.errors import FormatError, InputError
from vidground.results.annotation_tools.annotated_video import AnnotatedVideo
from vidground.results.annotation_tools.correcting import with_annotated_events
from vidground.results.formats import save
from vidground.results.types import Captions, Event, Groundings, Moment
from vidground.training.data.correction_pairs import pairs_of_files

LONG = replace(VIDEO, path="in/match.mp4", duration_s=60.0, sha256=None)
PREDICTED = replace(
    captions(Event(2.5, 5.0, "a man sits"), Event(10.0, 14.02, "a cat, barks")), video=LONG
)
RIGHT = replace(
    PREDICTED, events=(Event(2.5, 7.0, "a man sits"), Event(10.0, 14.02, "a dog, barks"))
)
ASKED = Groundings(
    (
        replace(answer("a goal", Moment(2.0, 4.0, 0.7), answer="In 2 - 4 s."), video=LONG),
        replace(answer("a card", answer="The event does not happen."), video=LONG),
    )
)
TOOLS = ("srt", "vtt", "eaf", "via.json", "labelstudio.json")


def corrected(result: Any, path: Path) -> Path:
    """What a tool saves where a person has entered the events of `result`."""
    save(result, path)
    if path.name.endswith("labelstudio.json"):
        (task,) = json.loads(path.read_text())
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
        path.write_text(json.dumps([task]))
    return path


def video_named(result: Captions, name: str) -> Captions:
    return replace(result, video=replace(LONG, path=f"in/{name}.mp4"))


@pytest.mark.parametrize("suffix", TOOLS)
def test_each_tool_gives_the_pairs_of_an_edited_result(tmp_path: Path, suffix: str) -> None:
    save(PREDICTED, tmp_path / "match.json")
    save(RIGHT, tmp_path / "right.json")
    expected = pairs_of_files(tmp_path / "match.json", tmp_path / "right.json")
    assert expected.counts == {"times": 1, "text": 1}
    edited = corrected(RIGHT, tmp_path / f"fixed.{suffix}")
    found = pairs_of_files(tmp_path / "match.json", edited)
    assert found == expected
    same = corrected(PREDICTED, tmp_path / f"same.{suffix}")
    unchanged = pairs_of_files(tmp_path / "match.json", same)
    assert (unchanged.samples, unchanged.answers, unchanged.identical) == ((), 1, 1)


@pytest.mark.parametrize("suffix", TOOLS)
def test_events_of_queries_belong_to_the_query_that_is_their_text(
    tmp_path: Path, suffix: str
) -> None:
    save(ASKED, tmp_path / "match.json")
    goal, card = ASKED.results
    edited = Groundings((replace(goal, moments=()), replace(card, moments=(Moment(6.0, 9.0),))))
    found = pairs_of_files(tmp_path / "match.json", corrected(edited, tmp_path / f"fix.{suffix}"))
    assert found.failures == ()
    chosen = [
        (sample["tgt"]["chosen"], sample["conversations"]["chosen"][1]["value"])
        for sample in found.samples
    ]
    assert chosen == [
        ([], "</evi>The event does not happen."),
        ([6.0, 9.0], "<evi></evi>The event happens in <evi>."),
    ]


def test_an_event_that_is_no_query_is_refused() -> None:
    annotated = AnnotatedVideo(None, (Event(1, 2, "a  goal"), Event(3, 4, "a foul")), 0.001)
    with pytest.raises(FormatError, match=r"'a foul', which is none of .*'a goal', 'a card'"):
        with_annotated_events(ASKED, annotated)
    alone = Groundings(ASKED.results[:1])
    nameless = AnnotatedVideo(None, (Event(1, 2, ""),), 0.001)
    changed = with_annotated_events(alone, nameless)
    assert isinstance(changed, Groundings)
    assert [(m.start_s, m.end_s) for m in changed.results[0].moments] == [(1, 2)]


def test_a_time_that_was_only_rounded_stays_as_predicted() -> None:
    predicted = replace(PREDICTED, events=(Event(2.49, 5.51, "a man\nsits"),))
    annotated = AnnotatedVideo(None, (Event(2.52, 5.48, "a man sits"),), 0.04)
    assert with_annotated_events(predicted, annotated) == predicted
    moved = AnnotatedVideo(None, (Event(2.56, 5.48, "a man stands"),), 0.04)
    assert with_annotated_events(predicted, moved).events == (Event(2.56, 5.51, "a man stands"),)


def test_another_video_is_refused(tmp_path: Path) -> None:
    save(video_named(PREDICTED, "other"), tmp_path / "other.json")
    found = pairs_of_files(tmp_path / "other.json", corrected(RIGHT, tmp_path / "a.eaf"))
    (failure,) = found.failures
    assert "is about match.mp4, and the prediction about in/other.mp4" in failure


def test_files_of_folders_belong_together_by_name(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for index, suffix in enumerate(TOOLS):
        name = f"film{index}"
        save(video_named(PREDICTED, name), old / f"deep/{name}.json")
        corrected(video_named(RIGHT, name), new / f"deep/{name}.{suffix}")
    (new / "notes.csv").write_text("a,b\n")
    found = pairs_of_files(old, new)
    assert (len(found.samples), found.failures) == (2 * len(TOOLS), ())
    assert found.unmatched == ("notes.csv",)
    assert [sample["video"] for sample in found.samples[::2]] == [
        f"in/film{index}.mp4" for index in range(len(TOOLS))
    ]


def test_of_several_files_of_a_name_the_edited_one_counts(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("match.json", "match.srt", "match.vtt"):
        save(PREDICTED, old / name)
    shutil.copytree(old, new)
    save(RIGHT, new / "match.srt")
    found = pairs_of_files(old, new)
    assert (found.answers, found.identical, len(found.samples)) == (1, 0, 2)
    save(RIGHT, new / "match.vtt")
    (failure,) = pairs_of_files(old, new).failures
    assert "both correct" in failure


@pytest.mark.parametrize("folder", [True, False])
def test_an_export_of_many_videos_is_matched_by_their_names(tmp_path: Path, folder: bool) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    tasks = []
    for name in ("one", "two", "three"):
        save(video_named(PREDICTED, name), old / f"{name}.json")
        export = corrected(video_named(RIGHT, name), tmp_path / f"{name}.labelstudio.json")
        tasks += json.loads(export.read_text())
    tasks[2]["annotations"] = []
    (new / "project-1.json").write_text(json.dumps(tasks))
    found = pairs_of_files(old, new if folder else new / "project-1.json")
    assert found.failures == ()
    assert [sample["video"] for sample in found.samples[::2]] == ["in/one.mp4", "in/two.mp4"]
    assert found.unmatched == ("three.json",)


def test_an_export_that_names_no_result_is_refused(tmp_path: Path) -> None:
    save(video_named(PREDICTED, "one"), tmp_path / "old/one.json")
    export = corrected(video_named(RIGHT, "two"), tmp_path / "two.via.json")
    with pytest.raises(InputError, match="names no video of the results"):
        pairs_of_files(tmp_path / "old", export)


def test_what_was_written_for_tools_beside_a_result_does_not_hide_it(tmp_path: Path) -> None:
    for suffix in ("json", "labelstudio.json", "via.json", "srt"):
        (tmp_path / "pred").mkdir(exist_ok=True)
        save(PREDICTED, tmp_path / "pred" / f"match.{suffix}")
    (tmp_path / "fixed").mkdir()
    corrected(RIGHT, tmp_path / "fixed" / "match.srt")
    found = pairs_of_files(tmp_path / "pred", tmp_path / "fixed")
    assert (found.counts, found.failures) == ({"times": 1, "text": 1}, ())
