"""Editing: the rate a video is edited at, times in whole frames, names and addresses."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import VIDEO
from vidground.errors import FormatError
from vidground.results.editors.editing import EDITOR_RATES, Span, editor_rate, to_edit, to_frames
from vidground.results.types import Event

FILM, NTSC, HIGH = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *((float(rate), rate) for rate in EDITOR_RATES),
        (23.976, FILM),
        (23.98, FILM),
        (29.97, NTSC),
        (59.94, HIGH),
        (24.0001, 24),
        (29.999, 30),
        (12.0, 24),
        (12.5, 25),
        (15.0, 30),
        (14.985, NTSC),
        (10.0, 30),
        (48.0, 24),
        (100.0, 50),
        (119.88, HIGH),
        (120.0, 60),
        (240.0, 60),
        (18.0, FILM),
        (29.5, NTSC),
        (61.3, 60),
        (None, 25),
        (0.0, 25),
        (-1.0, 25),
        (float("nan"), 25),
        (float("inf"), 25),
    ],
)
def test_the_rate_is_exact_and_one_that_editors_have(fps: float | None, rate: Fraction) -> None:
    assert editor_rate(replace(VIDEO, fps=fps)) == rate


@given(st.floats(1e-300, 1e300))
def test_any_rate_finds_one(fps: float) -> None:
    assert editor_rate(replace(VIDEO, fps=fps)) in EDITOR_RATES


@pytest.mark.parametrize("rate", EDITOR_RATES)
def test_drop_frame_is_for_29_97_and_59_94(rate: Fraction) -> None:
    edit = to_edit([], replace(VIDEO, fps=float(rate)))
    assert edit.drop_frame == (rate in {NTSC, HIGH})


@given(st.sampled_from(EDITOR_RATES), st.integers(0, 200 * 3600 * 60))
def test_a_frames_own_time_is_that_frame(rate: Fraction, frame: int) -> None:
    assert to_frames(float(frame / rate), rate) == frame


@given(st.sampled_from(EDITOR_RATES), st.floats(0, 200 * 3600.0))
def test_a_time_moves_by_half_a_frame_at_most(rate: Fraction, seconds: float) -> None:
    assert abs(to_frames(seconds, rate) / rate - Fraction(seconds)) <= 1 / rate / 2


def test_events_become_spans_by_time_of_a_frame_at_least() -> None:
    late, short = Event(2.0, 3.0, " b\n c "), Event(1.0, 1.001, "\x00")
    edit = to_edit([late, short], VIDEO)
    assert edit.spans == (Span(25, 26, "…", short), Span(50, 75, "b c", late))
    assert [span.frames for span in edit.spans] == [1, 25]
    assert (edit.frames, edit.width, edit.height) == (112, 64, 48)  # 4.5 s are 112.5 frames
    assert to_edit([], replace(VIDEO, duration_s=0.0)).frames == 1


def test_names_are_plain_and_addresses_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edit = to_edit([], replace(VIDEO, path="a b/\x1b[31mred\n\udcff#?.mp4"))
    assert edit.name == "red \ufffd#?.mp4"
    assert edit.url == f"{tmp_path.as_uri()}/a%20b/%1B%5B31mred%0A%FF%23%3F.mp4"
    assert to_edit([], replace(VIDEO, path="/\ud800.mp4")).url == "file:///%3F.mp4"
    assert to_edit([], replace(VIDEO, path="/x/./y.mp4")).url == "file:///x/y.mp4"


def test_rates_rise() -> None:
    assert all(a < b for a, b in itertools.pairwise(EDITOR_RATES))


@pytest.mark.parametrize(
    ("timecode", "fps", "start", "drop_frame"),
    [
        (None, 29.97, 0, True),
        ("14:09:42:00", 25.0, 50982 * 25, False),
        ("01:00:00;00", 29.97, 107892, True),
        ("01:00:00:00", 29.97, 108000, False),
        ("00:01:00;04", 59.94, 3600, True),
        ("00:00:01:12", 23.976, 36, False),
        # Drop-frame form has no meaning at 30, and counts as the other.
        ("00:01:00;02", 30.0, 1802, False),
        # Frame 6 of 12 is frame 12 of 24; frame 7 of 100 is frame 4 (3.5) of 50.
        ("00:00:10:06", 12.0, 252, False),
        ("00:00:10:07", 100.0, 504, False),
        # ;08 of 119.88, after the 8 numbers that are left out, is ;04 of 59.94.
        ("00:01:00;08", 119.88, 3600, True),
        ("00:00:01:05", None, 30, False),
    ],
)
def test_source_timecode_counts_frames_at_the_rate_to_edit_at(
    timecode: str | None, fps: float | None, start: int, drop_frame: bool
) -> None:
    edit = to_edit([], replace(VIDEO, fps=fps, timecode=timecode))
    assert (edit.start, edit.drop_frame) == (start, drop_frame)
    if timecode is not None and fps == pytest.approx(float(edit.rate), 1e-4):
        assert edit.timecode(start) == (timecode if drop_frame else timecode.replace(";", ":"))


@pytest.mark.parametrize("timecode", ["", "1 h", "00:00:00", "aa:00:00:00"])
def test_an_impossible_timecode_is_reported(timecode: str) -> None:
    with pytest.raises(FormatError, match=r"timecode is '.*'; it must be HH:MM:SS:FF"):
        to_edit([], replace(VIDEO, timecode=timecode))
