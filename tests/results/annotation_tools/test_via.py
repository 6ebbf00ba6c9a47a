"""VIA projects and both of its CSV exports, as the program writes them."""

import json
from typing import Any

import pytest

from tests.helpers.result_makers import captions
from vidground.errors import FormatError
from vidground.results.annotation_tools.via import read_via, read_via_csv, via
from vidground.results.types import Event

RESULT = captions(Event(1.0, 2.5, "a man sits"), Event(0.0, 4.125, "rain", 0.75))
ATTRIBUTES = {
    "1": {"aname": "what", "type": 1, "options": {}},
    "2": {"aname": "kind", "type": 4, "options": {"0": "goal", "1": "foul"}},
}
CSV = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# Notes:
# ATTRIBUTE = {attributes}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""films/a.mp4""]",0,"[1.124,5.5]","[]","{{""1"":""main, title"",""2"":""1""}}"
"1_b","[""films/a.mp4""]",0,"[2.41892]","[2,1,2,3,4]","{{""1"":""AOI""}}"
"2_c","[""b.mp4""]",0,"[0,2]","[]","{{""1"":""_DEFAULT"",""2"":""0""}}"
"""


def changed(**parts: Any) -> str:
    return json.dumps(json.loads(via(RESULT)) | parts)


def test_events_are_temporal_segments_with_a_text() -> None:
    project = json.loads(via(RESULT))
    assert [(s["z"], s["av"]) for s in project["metadata"].values()] == [
        ([0.0, 4.125], {"1": "rain"}),
        ([1.0, 2.5], {"1": "a man sits"}),
    ]
    assert project["file"]["1"]["fname"] == "match.mp4"
    assert project["view"] == {"1": {"fid_list": ["1"]}}
    assert project["project"]["vid_list"] == ["1"]


def test_a_project_comes_back() -> None:
    (video,) = read_via(via(RESULT))
    assert (video.video, video.resolution_s) == ("match.mp4", 0.001)
    assert video.events == (Event(0.0, 4.125, "rain"), Event(1.0, 2.5, "a man sits"))


def test_options_are_texts_and_frames_are_passed_over() -> None:
    segments = {
        "1_a": {"vid": "1", "z": [1, 2], "xy": [], "av": {"1": "away", "2": "1"}},
        "1_b": {"vid": 1, "z": [3], "xy": [2, 1, 1, 5, 5], "av": {"2": "0"}},
        "1_c": {"vid": "1", "z": [5, 6], "xy": [], "av": {"1": "_DEFAULT"}},
    }
    (video,) = read_via(changed(metadata=segments, attribute=ATTRIBUTES))
    assert video.events == (Event(1, 2, "away foul"), Event(5, 6, ""))


def test_csv_of_several_videos() -> None:
    first, second = read_via_csv(CSV.format(attributes=json.dumps(ATTRIBUTES)))
    assert (first.video, first.events) == ("a.mp4", (Event(1.124, 5.5, "main, title foul"),))
    assert (second.video, second.events) == ("b.mp4", (Event(0, 2, "goal"),))


def test_csv_of_segments() -> None:
    text = (
        "# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,"
        "metadata\n"
        '"1_a","[""a.mp4""]",1.5,2.25,"{""caption"":""a man sits"",""mood"":""calm""}"\n'
    )
    (video,) = read_via_csv(text)
    assert video.events == (Event(1.5, 2.25, "a man sits"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "the project is list"),
        ("{}", "file of a VIA 3 project is NoneType"),
        (changed(metadata={"1_a": {"vid": "9", "z": [1, 2], "av": {}}}), "view '9'"),
        (changed(metadata={"1_a": {"vid": "1", "z": [2, 1], "av": {}}}), "segment 1_a: Event"),
        (changed(metadata={"1_a": {"vid": "1", "z": [2, "x"], "av": {}}}), "'x'; it must be a"),
        (changed(view={"1": {"fid_list": ["8"]}}), "view 1 shows no file"),
    ],
)
def test_a_wrong_project_is_named(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read_via(text)


def test_other_csv_is_refused() -> None:
    with pytest.raises(FormatError, match="no line '# CSV_HEADER"):
        read_via_csv("start_s,end_s,score,text\n")
