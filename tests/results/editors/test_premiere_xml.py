"""Premiere XML: read with an XML parser at every rate, and by hand."""

from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings

from tests.helpers.edit_makers import at_any_rate, in_frames
from tests.helpers.result_makers import TWO, VIDEO, captions
from vidground.results.formats import render
from vidground.results.types import Captions

SOUND = replace(VIDEO, timecode="14:09:42:00", sound_tracks=1, sound_channels=2, sound_rate=48000)


def parse(result: Captions) -> ET.Element:
    text = render(result, "premiere-xml")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n<xmeml version="4">'
    assert text.startswith(head)
    (sequence,) = ET.fromstring(text.encode())
    assert sequence.tag == "sequence"
    return sequence


def text(element: ET.Element, path: str) -> str:
    found = element.find(path)
    assert found is not None, path
    return found.text or ""


def test_a_sequence_by_hand() -> None:
    sequence = parse(replace(TWO, video=SOUND))
    assert [
        (m.findtext("name"), m.findtext("comment"), m.findtext("in"), m.findtext("out"))
        for m in sequence.iter("marker")
    ] == [
        ("=run --> stop", "score 0.750", "0", "31"),
        ("A man & a <dog>", "", "38", "100"),
    ]
    assert [child.tag for child in sequence][:5] == [
        "name",
        "duration",
        "rate",
        "timecode",
        "media",
    ]
    assert (text(sequence, "duration"), text(sequence, "timecode/string")) == ("112", "00:00:00:00")
    (file,) = [f for f in sequence.iter("file") if len(f)]
    assert text(file, "pathurl").startswith("file:///")
    assert (text(file, "timecode/string"), text(file, "timecode/frame")) == (
        ("14:09:42:00", "1274550")
    )
    assert text(file, "media/audio/channelcount") == "2"
    assert text(file, "media/audio/samplecharacteristics/samplerate") == "48000"
    pictures, sound = sequence.iter("clipitem")
    for clip in (pictures, sound):
        places = [text(clip, tag) for tag in ("start", "end", "in", "out")]
        assert places == ["0", "112", "0", "112"]
        assert [link.findtext("linkclipref") for link in clip.iter("link")] == (
            [pictures.get("id"), sound.get("id")]
        )
    assert {f.get("id") for f in sequence.iter("file")} == {"file-1"}


@pytest.mark.parametrize("tracks", [None, 0])
def test_no_sound_track_is_declared_without_known_sound(tracks: int | None) -> None:
    sequence = parse(replace(TWO, video=replace(VIDEO, sound_tracks=tracks)))
    assert not list(sequence.iter("audio"))
    assert not list(sequence.iter("link"))


@given(at_any_rate(last_s=200 * 3600.0))
@settings(max_examples=50)
def test_markers_are_whole_frames_at_an_exact_rate(made: tuple[Captions, Fraction]) -> None:
    result, rate = made
    sequence = parse(result)
    for element in sequence.iter("rate"):
        ntsc = Fraction(1000, 1001) if text(element, "ntsc") == "TRUE" else 1
        assert int(text(element, "timebase")) * ntsc == rate
    found = [
        (int(text(m, "in")), int(text(m, "out")) - int(text(m, "in")), text(m, "name"))
        for m in sequence.iter("marker")
    ]
    assert found == [
        (first, length, name.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))
        for first, length, name in in_frames(result, rate)
    ]
    drop = rate in {Fraction(30000, 1001), Fraction(60000, 1001)}
    assert {e.text for e in sequence.iter("displayformat")} == {"DF" if drop else "NDF"}


def test_no_events_make_a_sequence_without_markers() -> None:
    assert not list(parse(captions()).iter("marker"))
