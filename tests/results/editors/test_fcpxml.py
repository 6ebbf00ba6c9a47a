"""FCPXML: read with an XML parser and rational arithmetic at every rate, and by opentimelineio."""

from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree as ET

import opentimelineio
import pytest
from hypothesis import given, settings

from tests.helpers.edit_makers import at_any_rate, in_frames
from tests.helpers.result_makers import TWO, VIDEO, captions
from vidground.results.formats import render
from vidground.results.types import Captions, Event

# The children that the elements may have in version 1.10, in order, and the attributes that
# they must have, as far as they are written here.
CHILDREN = {
    "fcpxml": ["resources", "library"],
    "resources": ["format", "asset"],
    "format": [],
    "asset": ["media-rep"],
    "media-rep": [],
    "library": ["event"],
    "event": ["project"],
    "project": ["sequence"],
    "sequence": ["spine"],
    "spine": ["asset-clip"],
    "asset-clip": ["marker"],
    "marker": [],
}
REQUIRED = {
    "fcpxml": {"version"},
    "format": {"id"},
    "asset": {"id"},
    "media-rep": {"src"},
    "sequence": {"format"},
    "asset-clip": {"ref"},
    "marker": {"start", "value"},
}
TIMES = ("start", "duration", "offset", "tcStart", "frameDuration")


def seconds(time: str) -> Fraction:
    """A time as FCPXML writes it: "0s", "5s", "1001/24000s"."""
    assert time.endswith("s")
    return Fraction(time[:-1])


def parse(result: Captions) -> ET.Element:
    text = render(result, "fcpxml")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n<fcpxml')
    return ET.fromstring(text.encode())


def one(root: ET.Element, tag: str) -> ET.Element:
    (element,) = root.iter(tag)
    return element


def test_a_document_by_hand() -> None:
    root = parse(replace(TWO, video=replace(VIDEO, fps=23.976, path="/films/a b.mp4")))
    assert one(root, "format").attrib == {
        "id": "r1",
        "frameDuration": "1001/24000s",
        "width": "64",
        "height": "48",
    }
    assert one(root, "media-rep").get("src") == "file:///films/a%20b.mp4"
    clip = one(root, "asset-clip")
    # 4.5 s are 107.9 frames of 1001/24000 s.
    assert (clip.get("start"), clip.get("duration")) == ("0s", "108108/24000s")
    assert [marker.attrib for marker in clip] == [
        {
            "start": "0s",
            "duration": "30030/24000s",
            "value": "=run --> stop",
            "note": "score 0.750",
        },
        {"start": "36036/24000s", "duration": "60060/24000s", "value": "A man & a <dog>"},
    ]


@given(at_any_rate(last_s=200 * 3600.0))
@settings(max_examples=50)
def test_times_are_exact_and_the_form_is_valid(made: tuple[Captions, Fraction]) -> None:
    result, rate = made
    root = parse(result)
    assert seconds(one(root, "format").attrib["frameDuration"]) == 1 / rate
    markers = [
        (
            seconds(marker.attrib["start"]) * rate,
            seconds(marker.attrib["duration"]) * rate,
            marker.attrib["value"],
        )
        for marker in root.iter("marker")
    ]
    # What XML cannot hold is all that is lost.
    expected = [
        (first, length, text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))
        for first, length, text in in_frames(result, rate)
    ]
    assert markers == expected
    ids = {element.get("id") for element in root.iter()}
    for element in root.iter():
        tags = [child.tag for child in element]
        order = CHILDREN[element.tag]
        assert tags == sorted(tags, key=order.index)
        assert REQUIRED.get(element.tag, set()) <= element.attrib.keys()
        assert {element.get("ref"), element.get("format")} - {None} <= ids
        for name in TIMES:
            frames = seconds(element.get(name, "0s")) * rate
            assert frames.denominator == 1
            # A time is a 64-bit number of units of which a second has a 32-bit number.
            assert abs(frames * 1001) < 2**63


@pytest.mark.parametrize("fps", [23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0])
def test_timecode_drops_frames_at_29_97_and_59_94_only(fps: float) -> None:
    root = parse(replace(TWO, video=replace(VIDEO, fps=fps)))
    drop = "DF" if fps in {29.97, 59.94} else "NDF"
    assert one(root, "sequence").get("tcFormat") == one(root, "asset-clip").get("tcFormat") == drop


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 50.0, 60.0])
def test_opentimelineio_finds_the_markers(fps: float) -> None:
    # Its reader takes whole rates only and cuts times off, so that it may be a frame short.
    events = [Event(start / 8, start / 8 + 2, f"event {start}") for start in range(40)]
    result = replace(captions(*events), video=replace(VIDEO, fps=fps, duration_s=9.0))
    read = opentimelineio.adapters.read_from_string(render(result, "fcpxml"), "fcpx_xml")
    (clip,) = read.find_clips()
    found = [(m.marked_range.start_time.value, m.name) for m in clip.markers]
    expected = [(first, text) for first, _, text in in_frames(result, Fraction(fps))]
    assert [name for _, name in found] == [name for _, name in expected]
    assert all(0 <= e[0] - f[0] <= 1 for e, f in zip(expected, found, strict=True))


def test_no_events_make_a_clip_without_markers() -> None:
    assert len(one(parse(captions()), "asset-clip")) == 0


@pytest.mark.parametrize(
    ("timecode", "fps", "start", "form"),
    [
        ("14:09:42:00", 25.0, Fraction(50982), "NDF"),
        ("01:00:00;00", 29.97, Fraction(107892 * 1001, 30000), "DF"),
        ("01:00:00:00", 29.97, Fraction(108000 * 1001, 30000), "NDF"),
        ("00:01:00;04", 59.94, Fraction(3600 * 1001, 60000), "DF"),
    ],
)
def test_source_times_count_from_the_timecode(
    timecode: str, fps: float, start: Fraction, form: str
) -> None:
    video = replace(VIDEO, fps=fps, timecode=timecode)
    root = parse(replace(TWO, video=video))
    clip = one(root, "asset-clip")
    assert seconds(one(root, "asset").attrib["start"]) == start
    assert (seconds(clip.attrib["start"]), clip.get("offset")) == (start, "0s")
    assert one(root, "sequence").get("tcStart") == "0s"
    assert one(root, "sequence").get("tcFormat") == clip.get("tcFormat") == form
    plain = one(parse(replace(TWO, video=replace(video, timecode=None))), "asset-clip")
    for marker, unmoved in zip(clip, plain, strict=True):
        assert seconds(marker.attrib["start"]) == start + seconds(unmoved.attrib["start"])


@pytest.mark.parametrize(
    ("facts", "attributes"),
    [
        ({}, {}),
        ({"sound_tracks": 0}, {}),
        ({"sound_tracks": 2}, {"hasAudio": "1", "audioSources": "2"}),
        (
            {"sound_tracks": 1, "sound_channels": 6, "sound_rate": 48000},
            {"hasAudio": "1", "audioSources": "1", "audioChannels": "6", "audioRate": "48000"},
        ),
    ],
)
def test_sound_is_declared_as_far_as_it_is_known(
    facts: dict[str, int], attributes: dict[str, str]
) -> None:
    asset = one(parse(replace(TWO, video=replace(VIDEO, **facts))), "asset")
    found = {key: value for key, value in asset.attrib.items() if "udio" in key}
    assert found == attributes
