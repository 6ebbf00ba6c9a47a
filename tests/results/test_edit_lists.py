"""OpenTimelineIO and EDL: read back by opentimelineio at every rate, and by hand."""

from dataclasses import replace
from fractions import Fraction

import opentimelineio
import pytest
from hypothesis import given, settings

from tests.helpers.edit_makers import at_any_rate, in_frames
from tests.helpers.result_makers import TWO, VIDEO, captions
from vidground.errors import FormatError
from vidground.results.editing import EDITOR_RATES
from vidground.results.formats import render
from vidground.results.safe_text import plain_text
from vidground.results.types import Captions, Event

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


def test_an_edl_whose_events_together_pass_a_day_is_refused() -> None:
    long = captions(*[Event(start, 50_000.0 + start, "x") for start in (0.0, 1.0)])
    with pytest.raises(FormatError, match=r"the events together end at 100000\.000 s"):
        render(long, "edl")


def test_no_events_make_an_edl_without_edits() -> None:
    assert render(captions(), "edl") == "TITLE: match.mp4\nFCM: NON-DROP FRAME\n"
    (clip,) = read(captions(), "otio", Fraction(25)).find_clips()
    assert len(clip.markers) == 0
