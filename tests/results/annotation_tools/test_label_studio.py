"""Label Studio counts in frames from 1; what is exported comes back as events in seconds."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.result_makers import VIDEO, captions
from vidground.errors import FormatError
from vidground.results.annotation_tools.label_studio import (
    LABELING_CONFIG,
    label_studio,
    read_label_studio,
)
from vidground.results.types import Event

RESULT = captions(Event(0.0, 1.0, "a man sits", 0.5), Event(2.04, 4.5, "a dog barks"))


def exported(text: str, **changed: Any) -> list[dict[str, Any]]:
    """What Label Studio exports if somebody submits the pre-annotations as they are."""
    (task,) = json.loads(text)
    result = task.pop("predictions")[0]["result"]
    return [task | {"id": 7, "annotations": [{"id": 1, "result": result}]} | changed]


def test_frames_are_counted_from_1_and_both_ends_are_included() -> None:
    (task,) = json.loads(label_studio(RESULT))
    assert task["data"] == {"video": "/data/local-files/?d=in/match.mp4", "fps": 25.0}
    first, text, second, _ = task["predictions"][0]["result"]
    assert first["value"] == {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["Event"]}
    assert (first["id"], first["from_name"], first["to_name"]) == ("event1", "events", "video")
    assert first["score"] == 0.5
    assert (text["id"], text["type"], text["value"]["text"]) == (
        "event1",
        "textarea",
        ["a man sits"],
    )
    assert second["value"]["ranges"] == [{"start": 52, "end": 112}]
    assert 'name="events"' in LABELING_CONFIG
    assert 'frameRate="$fps"' in LABELING_CONFIG


def test_an_export_comes_back_in_seconds() -> None:
    (video,) = read_label_studio(json.dumps(exported(label_studio(RESULT))))
    assert (video.video, video.resolution_s) == ("match.mp4", 0.04)
    assert video.events == (Event(0.0, 1.0, "a man sits"), Event(2.04, 112 / 25, "a dog barks"))


def test_names_of_uploaded_and_encoded_videos_are_read() -> None:
    for address, name in (
        ("/data/upload/1/0a1b2c3d-match.mp4", "match.mp4"),
        ("/data/local-files/?d=films/my%20film.mp4", "my film.mp4"),
        ("https://host/films/a.webm?token=1", "a.webm"),
    ):
        task = exported(label_studio(RESULT), data={"video": address, "fps": 25})
        (video,) = read_label_studio(json.dumps(task))
        assert video.video == name
        assert video.is_about(f"elsewhere/{name.split('.')[0]}.mkv")
        assert not video.is_about("other.mp4")


def test_the_annotation_that_counts_is_chosen() -> None:
    def annotation(end: int, **fields: Any) -> dict[str, Any]:
        value = {"ranges": [{"start": 1, "end": end}], "timelinelabels": ["goal"]}
        region = {"id": "r", "type": "timelinelabels", "value": value}
        return {"result": [region], **fields}

    def chosen(*annotations: dict[str, Any]) -> list[float]:
        task = {"data": {"video": "a.mp4", "fps": 10}, "annotations": list(annotations)}
        videos = read_label_studio(json.dumps([task]))
        return [event.end_s for video in videos for event in video.events]

    old, new = annotation(10, updated_at="2024-01"), annotation(20, updated_at="2024-02")
    assert chosen(new, old) == [2.0]
    assert chosen(new, annotation(30, updated_at="2023", ground_truth=True)) == [3.0]
    assert chosen(old, annotation(40, updated_at="2025", was_cancelled=True)) == [1.0]
    assert chosen() == []


def test_a_region_without_a_text_has_its_label_or_none() -> None:
    def text(label: str) -> str:
        value = {"ranges": [{"start": 1, "end": 5}], "timelinelabels": [label]}
        region = {"id": "r", "type": "timelinelabels", "value": value}
        other = {"id": "c", "type": "choices", "value": {"choices": ["x"]}}
        task = exported(label_studio(RESULT), annotations=[{"result": [region, other]}])
        return read_label_studio(json.dumps(task))[0].events[0].text

    assert (text("goal"), text("Event")) == ("goal", "")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"data": {"video": "a.mp4"}}, "task 0: data.fps is None.* give each task the frameRate"),
        ({"data": {"video": "a.mp4", "fps": True}}, "data.fps is True"),
        ({"data": {"fps": 25}}, "data.video is None"),
        ({"annotations": None}, "annotations is NoneType"),
        ({"annotations": [{"result": 3}]}, "result is int"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read_label_studio(json.dumps(exported(label_studio(RESULT), **changed)))


def test_the_short_export_is_refused() -> None:
    short = [{"video": "a.mp4", "events": [{"ranges": [], "timelinelabels": []}]}]
    with pytest.raises(FormatError, match="task 0 has no annotations; export the project as JSON"):
        read_label_studio(json.dumps(short))
    with pytest.raises(FormatError, match="is not JSON"):
        read_label_studio("[" * 100_000)


def test_a_video_without_a_frame_rate_is_refused() -> None:
    with pytest.raises(FormatError, match=r"frame rate of in/match\.mp4 is unknown.* use elan"):
        label_studio(replace(RESULT, video=replace(VIDEO, fps=None)))
