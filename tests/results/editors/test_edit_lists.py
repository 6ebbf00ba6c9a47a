"""OpenTimelineIO, EDL and Resolve's markers: by hand, and read back by opentimelineio."""

import csv
import io
import re
from dataclasses import replace
from fractions import Fraction

import opentimelineio
import pytest
from hypothesis import given, settings

from tests.helpers.edit_makers import at_any_rate, in_frames
from tests.helpers.result_makers import TWO, VIDEO, captions
from vidground.errors import FormatError
from vidground.language.safe_text import plain_text
from vidground.results.editors.editing import EDITOR_RATES
from vidground.results.formats import render
from vidground.results.types import Captions, Event

pytestmark = pytest.mark.smoke


DAY_S = 24 * 3600.0


def at_rate(result: Captions, fps: float) -> Captions:
    return replace(result, video=replace(VIDEO, fps=fps))


def read(result: Captions, format: str, rate: Fraction) -> opentimelineio.schema.Timeline:
    text = render(result, format)
    if format == "otio":
        return opentimelineio.adapters.read_from_string(text, "otio_json")
    return opentimelineio.adapters.read_from_string(text, "cmx_3600", rate=float(rate))


def test_an_edl_by_hand() -> None:
    assert render(at_rate(TWO, 29.97), "edl") == (
        "TITLE: match.mp4\nFCM: DROP FRAME\n\n"
        "001  AX       V     C        00:00:00;00 00:00:01;07 00:00:00;00 00:00:01;07\n"
        "* FROM CLIP NAME:  match.mp4\n* COMMENT: =run --> stop\n"
        "002  AX       V     C        00:00:01;15 00:00:04;00 00:00:01;07 00:00:03;22\n"
        "* FROM CLIP NAME:  match.mp4\n* COMMENT: A man & a <dog>\n"
    )


@pytest.mark.parametrize(
    ("fps", "start_s", "timecode"),
    [
        # After a minute of drop-frame timecode two numbers are left out (four at 59.94), but not
        # after ten: 1800 frames at 29.97 are 00:01:00;02, 17982 are 00:10:00;00.
        (30000 / 1001, 1800 * 1001 / 30000, "00:01:00;02"),
        (30000 / 1001, 17982 * 1001 / 30000, "00:10:00;00"),
        (60000 / 1001, 3600 * 1001 / 60000, "00:01:00;04"),
        # Others count on: 86400 frames at 23.976 are an hour of timecode.
        (24000 / 1001, 86400 * 1001 / 24000, "01:00:00:00"),
        (25.0, 3600.04, "01:00:00:01"),
        (60.0, 59.99, "00:00:59:59"),
    ],
)
def test_timecode_by_hand(fps: float, start_s: float, timecode: str) -> None:
    text = render(at_rate(captions(Event(start_s, start_s + 1, "x")), fps), "edl")
    assert text.split("\n")[3].split()[4] == timecode
    assert ("FCM: DROP FRAME" in text) == (";" in timecode)


@given(at_any_rate(last_s=DAY_S / 5))
@settings(max_examples=50)
def test_an_edl_reads_back_with_the_same_frames(made: tuple[Captions, Fraction]) -> None:
    result, rate = made
    expected = in_frames(result, rate)
    if not expected:
        assert render(result, "edl").count("\n") == 2
        return
    timeline = read(result, "edl", rate)
    clips = list(timeline.find_clips())
    assert [
        (
            clip.source_range.start_time.value,
            clip.source_range.duration.value,
            clip.metadata["cmx_3600"]["comments"][0].removeprefix("COMMENT: "),
        )
        for clip in clips
    ] == expected
    assert {clip.name for clip in clips} == {plain_text(result.video.path[6:])}
    # One after the other, without a gap.
    assert timeline.duration().value == sum(length for _, length, _ in expected)


@given(at_any_rate(last_s=200 * 3600.0))
@settings(max_examples=50)
def test_otio_reads_back_with_the_same_frames_and_times(made: tuple[Captions, Fraction]) -> None:
    result, rate = made
    (clip,) = read(result, "otio", rate).find_clips()
    assert [
        (m.marked_range.start_time.value, m.marked_range.duration.value, m.name)
        for m in clip.markers
    ] == in_frames(result, rate)
    assert {m.marked_range.start_time.rate for m in clip.markers} <= {float(rate)}
    starts = sorted(event.start_s for event in result.events)
    kept = sorted(marker.metadata["vidground"]["start_s"] for marker in clip.markers)
    assert kept == pytest.approx(starts, rel=1e-14)  # opentimelineio writes 16 digits
    assert clip.source_range.duration.value == round(200 * 3600 * rate)
    assert clip.media_reference.available_range == clip.source_range
    assert clip.media_reference.target_url.startswith("file:///")


def test_otio_keeps_scores() -> None:
    (clip,) = read(TWO, "otio", Fraction(25)).find_clips()
    assert [marker.metadata["vidground"].get("score") for marker in clip.markers] == [0.75, None]


@pytest.mark.parametrize("rate", EDITOR_RATES)
def test_an_edl_ends_with_its_day(rate: Fraction) -> None:
    # An hour of drop-frame timecode has 107892 frames at 29.97.
    nominal = round(rate)
    dropping = rate in {Fraction(30000, 1001), Fraction(60000, 1001)}
    frames = 24 * 107892 * (nominal // 30) if dropping else 86400 * nominal
    end_s = float(frames / rate)
    last = at_rate(captions(Event(end_s - 1, end_s - float(1 / rate), "x")), float(rate))
    (clip,) = read(last, "edl", rate).find_clips()
    assert clip.source_range.end_time_exclusive().value == frames - 1
    late = at_rate(captions(Event(end_s - 1, end_s + 1, "x")), float(rate))
    with pytest.raises(FormatError, match=r"edl: an event ends at .* 24 hours; use otio or fcpxml"):
        render(late, "edl")


@pytest.mark.parametrize(
    ("timecode", "fps", "end_s", "source"),
    [
        ("14:09:42:00", 25.0, 1.25, "14:09:42:00 14:09:43:06"),
        # Three frames on: ;29, then ;02 of the next minute (;04 at 59.94), and the one after.
        ("10:00:59;28", 29.97, 0.1, "10:00:59;28 10:01:00;03"),
        ("10:00:59;58", 59.94, 0.05, "10:00:59;58 10:01:00;05"),
        ("10:00:59:28", 29.97, 0.1, "10:00:59:28 10:01:00:01"),
        ("23:59:59:24", 25.0, 0.08, "23:59:59:24 00:00:00:01"),
    ],
)
def test_an_edl_counts_from_the_source_timecode(
    timecode: str, fps: float, end_s: float, source: str
) -> None:
    video = replace(VIDEO, fps=fps, timecode=timecode)
    text = render(replace(captions(Event(0, end_s, "x")), video=video), "edl")
    assert re.search(rf"^001 +AX +V +C +{source} 00:00:00[:;]00 ", text, re.MULTILINE)
    assert (";" in timecode) == ("FCM: DROP FRAME" in text)


def test_an_edl_of_many_events_numbers_them_on() -> None:
    events = [Event(i, i + 0.5, f"event {i}") for i in range(1200)]
    text = render(captions(*events), "edl")
    numbers = re.findall(r"^(\d+)  AX", text, re.MULTILINE)
    assert (numbers[0], numbers[998], numbers[999], numbers[-1]) == ("001", "999", "1000", "1200")
    clips = list(read(captions(*events), "edl", Fraction(25)).find_clips())
    assert [clip.source_range.start_time.value for clip in clips] == [25 * i for i in range(1200)]


def test_otio_counts_from_the_source_timecode_and_states_sound() -> None:
    video = replace(VIDEO, timecode="14:09:42:00", sound_tracks=1, sound_channels=2)
    timeline = read(replace(TWO, video=video), "otio", Fraction(25))
    assert [(track.name, track.kind) for track in timeline.tracks] == [
        ("V1", "Video"),
        ("A1", "Audio"),
    ]
    pictures, sound = timeline.find_clips()
    for clip in (pictures, sound):
        assert clip.media_reference.available_range.start_time.value == 1274550
        assert clip.source_range == clip.media_reference.available_range
    assert [m.marked_range.start_time.value for m in pictures.markers] == [1274550, 1274588]
    assert [m.metadata["vidground"]["start_s"] for m in pictures.markers] == [0.0, 1.5]
    for unknown in (None, 0):
        silent = replace(VIDEO, sound_tracks=unknown)
        assert len(read(replace(TWO, video=silent), "otio", Fraction(25)).tracks) == 1


def test_resolve_markers_by_hand() -> None:
    result = captions(Event(1.5, 4.0, "2 men | a dog"), Event(0.0, 1.25, "=run", 0.75))
    assert render(result, "resolve-edl") == (
        "TITLE: match.mp4\nFCM: NON-DROP FRAME\n\n"
        "001  001      V     C        01:00:00:00 01:00:00:01 01:00:00:00 01:00:00:01  \n"
        "score 0.750 |C:ResolveColorBlue |M:=run |D:31\n\n"
        "002  001      V     C        01:00:01:13 01:00:01:14 01:00:01:13 01:00:01:14  \n"
        " |C:ResolveColorBlue |M:2 men / a dog |D:62\n\n"
    )
    assert list(csv.reader(io.StringIO(render(result, "resolve-csv")))) == [
        ["#", "Dur", "Record In", "Record Out", "Name", "Notes", "Color"],
        ["1", "00:00:01:06", "01:00:00:00", "01:00:01:06", "'=run", "score 0.750", "Blue"],
        ["2", "00:00:02:12", "01:00:01:13", "01:00:04:00", "2 men | a dog", "", "Blue"],
    ]
    drop = at_rate(captions(Event(0, 60.06, "x")), 29.97)
    assert "01:00:00;00 01:00:00;01" in render(drop, "resolve-edl")
    # 1800 frames end at 00:01:00;02 of the timeline.
    assert "1,00:01:00;02,01:00:00;00,01:01:00;02,x" in render(drop, "resolve-csv")


@given(at_any_rate(last_s=20 * 3600.0))
@settings(max_examples=50)
def test_opentimelineio_finds_the_resolve_markers_on_their_frames(
    made: tuple[Captions, Fraction],
) -> None:
    result, rate = made
    text = render(result, "resolve-edl")
    rows = in_frames(result, rate)
    found = re.findall(r"^(.*) \|C:ResolveColorBlue \|M:(.*) \|D:(\d+)$", text, re.MULTILINE)
    assert [(name, int(length)) for _, name, length in found] == [
        (text.replace("|", "/"), length) for _, length, text in rows
    ]
    times = re.findall(r"^\d+  001 .* (\S+) (\S+)  $", text, re.MULTILINE)
    from_timecode = opentimelineio.opentime.from_timecode
    hour = from_timecode("01:00:00;00" if "FCM: DROP" in text else "01:00:00:00", float(rate))
    starts = [(from_timecode(start, float(rate)) - hour).value for start, _ in times]
    assert starts == [first for first, _, _ in rows]


@pytest.mark.parametrize("format", ["resolve-edl", "resolve-csv"])
def test_resolve_markers_end_with_the_day(format: str) -> None:
    last = captions(Event(0, 23 * 3600.0, "x"))
    assert ":00" in render(last, format)
    with pytest.raises(FormatError, match=rf"{format}: an event ends at .* 24 hours"):
        render(captions(Event(0, 23 * 3600 + 0.04, "x")), format)


def test_an_edl_whose_events_together_pass_a_day_is_refused() -> None:
    long = captions(*[Event(start, 50_000.0 + start, "x") for start in (0.0, 1.0)])
    with pytest.raises(FormatError, match=r"the events together end at 100000\.000 s"):
        render(long, "edl")


def test_no_events_make_an_edl_without_edits() -> None:
    assert render(captions(), "edl") == "TITLE: match.mp4\nFCM: NON-DROP FRAME\n"
    (clip,) = read(captions(), "otio", Fraction(25)).find_clips()
    assert len(clip.markers) == 0
