"""Timecode: by hand at 25, 29.97 and 59.94 frames per second, and as opentimelineio counts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentimelineio import opentime

from vidground.results.editors.editing import EDITOR_RATES
from vidground.video.timecode import (
    DROP_FRAME_RATES,
    find_timecode,
    frames_per_day,
    to_frame_number,
    to_timecode,
)

NTSC, NTSC_60 = DROP_FRAME_RATES

# (frame, rate, timecode). At 29.97 drop-frame timecode leaves out ;00 and ;01 of every minute but
# each tenth: a minute has 1798 frames, ten have 17982, an hour 107892. At 59.94 it is twice that.
BY_HAND = [
    (0, NTSC, "00:00:00;00"),
    (1799, NTSC, "00:00:59;29"),
    (1800, NTSC, "00:01:00;02"),
    (3597, NTSC, "00:01:59;29"),
    (3598, NTSC, "00:02:00;02"),
    (17981, NTSC, "00:09:59;29"),
    (17982, NTSC, "00:10:00;00"),
    (107892, NTSC, "01:00:00;00"),
    (24 * 107892 - 1, NTSC, "23:59:59;29"),
    (3599, NTSC_60, "00:00:59;59"),
    (3600, NTSC_60, "00:01:00;04"),
    (35964, NTSC_60, "00:10:00;00"),
    (215784, NTSC_60, "01:00:00;00"),
    (1800, NTSC, "00:01:00:00"),
    (108000, NTSC, "01:00:00:00"),
    (86400, Fraction(24000, 1001), "01:00:00:00"),
    # 14:09:42:00 is 50982 s of 25 frames.
    (1274550, Fraction(25), "14:09:42:00"),
    (24 * 3600 * 50 - 1, Fraction(50), "23:59:59:49"),
]


@pytest.mark.parametrize(("frame", "rate", "timecode"), BY_HAND)
def test_timecode_by_hand(frame: int, rate: Fraction, timecode: str) -> None:
    assert to_timecode(frame, rate, drop_frame=";" in timecode) == timecode
    assert to_frame_number(timecode, rate) == frame


@pytest.mark.parametrize("rate", EDITOR_RATES)
@pytest.mark.parametrize("drop_frame", [False, True])
@given(data=st.data())
def test_timecode_counts_as_opentimelineio_does(
    rate: Fraction, drop_frame: bool, data: st.DataObject
) -> None:
    if drop_frame and rate not in DROP_FRAME_RATES:
        with pytest.raises(ValueError, match="no drop-frame timecode"):
            to_timecode(0, rate, drop_frame=True)
        return
    # At the rates that have drop-frame timecode, opentimelineio counts days in it in either form.
    day = frames_per_day(rate, drop_frame=rate in DROP_FRAME_RATES)
    frame = data.draw(st.integers(0, day - 1))
    timecode = to_timecode(frame, rate, drop_frame=drop_frame)
    assert to_frame_number(timecode, rate) == frame
    time = opentime.RationalTime(frame, float(rate))
    assert opentime.to_timecode(time, float(rate), drop_frame) == timecode


def test_timecode_starts_again_after_a_day() -> None:
    assert to_timecode(24 * 107892, NTSC, drop_frame=True) == "00:00:00;00"
    assert to_timecode(24 * 3600 * 25 + 3, Fraction(25), drop_frame=False) == "00:00:00:03"


@pytest.mark.parametrize(
    ("tags", "timecode"),
    [
        ([{}, {"timecode": "14:09:42:00"}, {"timecode": "01:00:00:00"}], "14:09:42:00"),
        ([{"timecode": " 1:02:03;04 "}], "01:02:03;04"),
        ([{"TIMECODE": "01:02:03.04", "other": "02:00:00:00"}], "01:02:03;04"),
        ([{"timecode": "0/30"}, {"timecode": "24:00:00:00"}, {"timecode": "01:60:00:00"}], None),
        ([], None),
    ],
)
def test_the_first_readable_timecode_tag_is_taken(
    tags: list[dict[str, str]], timecode: str | None
) -> None:
    assert find_timecode(tags) == timecode


def test_what_is_no_timecode_is_refused() -> None:
    with pytest.raises(ValueError, match="'1:2' is not a timecode"):
        to_frame_number("1:2", Fraction(25))
