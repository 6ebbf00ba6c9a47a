"""What a report is told: results brought together, texts safe, numbers small."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import ASKED, TWO, VIDEO, answer, captions
from vidground.results.types import Event, Groundings, Relevance
from vidground.review.report_data import VideoEntry, encode_entry, key_of, thin, visible_name


def test_captions_and_answers_on_one_video_are_shown_together() -> None:
    entry = VideoEntry(VIDEO, Path("/films/match.mp4"))
    entry.add(TWO, Path("match.json"))
    entry.add(ASKED, Path("match.query.json"))
    row = encode_entry(entry, link="match.mp4", pictures=["QQ==", None, None, None])
    assert (row["name"], row["path"], row["link"]) == ("match.mp4", "/films/match.mp4", "match.mp4")
    assert [(e["start"], e["end"], e["query"], e["score"]) for e in row["events"]] == [
        (0.0, 1.0, 0, 0.6),
        (0.0, 1.25, None, 0.75),
        (1.5, 4.0, None, None),
        (2.0, 4.0, 0, 0.7),
    ]
    assert [e.get("picture") for e in row["events"]] == ["QQ==", None, None, None]
    assert [(c["query"], c["found"]) for c in row["curves"]] == [
        ("a goal", True),
        ("a card", False),
    ]
    assert (row["curves"][0]["times"], row["curves"][0]["values"]) == ([0.0, 1.0], [0.1, 0.7])
    assert row["curves"][0]["threshold"] == 0.5
    assert row["notes"] == ["cut", "old"]
    facts = dict(row["facts"])
    assert facts["Captions"].startswith("toy, float32, vidground 0.1.0; ")
    assert facts["Queries"].endswith("match.query.json")
    assert "64 x 48, 25 frames per second, h264" in facts["Picture"]


def test_results_belong_together_by_place_and_size() -> None:
    here = Path("/films/match.mp4")
    assert key_of(TWO, here) == key_of(ASKED, here)
    other = replace(TWO, video=replace(VIDEO, size_bytes=VIDEO.size_bytes + 1))
    assert len({key_of(TWO, here), key_of(TWO, None), key_of(other, here)}) == 3


def test_texts_lose_control_characters_and_names_escape_them() -> None:
    entry = VideoEntry(replace(VIDEO, path="in/a\u202e4pm.exe\n\udcff"), None)
    entry.add(captions(Event(0, 1, "a\u202eb\x1b[31mc"), warnings=("x\u2066y",)), Path("r\n.json"))
    entry.add(Groundings((answer("q\u202e", answer="\x1b]0;t\x07said"),)), Path("q.json"))
    row = encode_entry(entry, link=None, pictures=[None])
    assert row["name"] == "a\\u202e4pm.exe\\n\\udcff"
    assert row["events"][0]["text"] == "abc"
    assert (row["curves"][0]["query"], row["curves"][0]["answer"]) == ("q", "said")
    assert row["notes"] == ["xy"]
    assert dict(row["facts"])["Captions"].endswith("r\\n.json")
    assert visible_name("Spiel, 1. Hälfte 東京.mp4") == "Spiel, 1. Hälfte 東京.mp4"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(2, 60))
def test_a_long_curve_keeps_its_highest_and_lowest_points(values: list[float], most: int) -> None:
    curve = Relevance(tuple(float(i) for i in range(len(values))), tuple(values))
    points = thin(curve, most)
    assert len(points) <= most or points == list(curve)
    assert set(points) <= set(curve)
    assert [time for time, _ in points] == sorted({time for time, _ in points})
    found = [value for _, value in points]
    assert (max(found), min(found)) == (max(values), min(values))
