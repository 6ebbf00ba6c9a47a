"""Cuts: which frames and packets a stretch of time comes to, by hand-made packets."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from vidground.errors import InputError
from vidground.media.cuts import CutSettings, Cutter
from vidground.video.packets import Packets
from vidground.video.timeline import Timeline

FRAME_S = 0.04


def cutter(
    shown_at: Sequence[int],
    keys: Sequence[int],
    settings: CutSettings = CutSettings(),
    *,
    note: str | None = None,
    open_groups: bool = False,
    hidden: Sequence[int] = (),
) -> Cutter:
    """A video at 25 frames a second. shown_at: the place of each packet's frame, -1 for none."""
    places = np.array(shown_at)
    shown = np.ones(len(places), bool)
    shown[list(hidden)] = False
    frames = np.flatnonzero(shown)
    order = frames[np.argsort(places[frames])]
    count = len(order)
    packets = Packets(
        times=places * 40,
        durations=np.full(len(places), 40),
        keys=np.isin(np.arange(len(places)), keys),
        shown=shown,
        jumps=(),
        complete=True,
        open_groups=open_groups,
        damaged=0,
    )
    timeline = Timeline(
        ticks=np.arange(count) * 40,
        end_tick=count * 40,
        time_base=Fraction(1, 1000),
        rate=Fraction(25),
        packets=order,
        packet_ticks=places * 40,
        skippable=note is None,
        note=note,
    )
    return Cutter(timeline, packets, settings)


# Two groups of seven: a key picture, then pictures that two others lean on and precede in time.
GROUPS = [0, 3, 1, 2, 6, 4, 5, 7, 10, 8, 9, 13, 11, 12]
KEYS = [0, 7]


def seconds(first: float, end: float) -> tuple[float, float]:
    return first * FRAME_S, end * FRAME_S


@pytest.mark.parametrize(
    ("asked", "first", "end", "packets"),
    [
        (seconds(7, 11), 7, 11, 4),  # from a key picture to where packets part
        (seconds(0, 14), 0, 14, 14),
        (seconds(7, 10), 7, 11, 4),  # packets part one frame later: within the tolerance
        (seconds(7.4, 11), 7, 11, 4),
        (seconds(8, 10), 8, 10, None),  # the start is within it, the end too, the length is not
        (seconds(7, 12.5), 7, 12, None),  # no joint is nearer than 1.5 frames
        (seconds(5, 11), 5, 11, None),  # no key picture near
        (seconds(8.1, 14), 8, 14, None),
    ],
)
def test_cuts_within_the_tolerance_are_copied(
    asked: tuple[float, float], first: int, end: int, packets: int | None
) -> None:
    cut = cutter(GROUPS, KEYS).cut(*asked)
    assert (cut.first, cut.end, cut.packets) == (first, end, packets)
    assert (cut.start_s, cut.end_s) == pytest.approx(seconds(first, end))
    assert cut.frames == end - first
    assert cut.duration_s == pytest.approx((end - first) * FRAME_S)


def test_a_given_tolerance_is_used() -> None:
    assert cutter(GROUPS, KEYS, CutSettings(tolerance_s=0)).cut(*seconds(7, 11)).packets == 4
    assert cutter(GROUPS, KEYS, CutSettings(tolerance_s=0)).cut(*seconds(7.2, 11)).packets is None
    wide = cutter(GROUPS, KEYS, CutSettings(tolerance_s=3.01 * FRAME_S))
    around = wide.cut(*seconds(5, 12))
    assert (around.first, around.end, around.packets) == (7, 14, 7)
    assert wide.cut(*seconds(7, 12)).end == 11  # the closest


def test_precise_copies_nothing() -> None:
    cut = cutter(GROUPS, KEYS, CutSettings("precise")).cut(*seconds(7, 11))
    assert (cut.first, cut.end, cut.packets) == (7, 11, None)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        (seconds(9, 10), 7, 11),
        (seconds(6, 7), 0, 7),
        (seconds(3, 7.6), 0, 8),
        (seconds(13, 99), 7, 14),
    ],
)
def test_fast_holds_the_asked_interval(asked: tuple[float, float], first: int, end: int) -> None:
    cut = cutter(GROUPS, KEYS, CutSettings("fast")).cut(*asked)
    assert (cut.first, cut.end, cut.packets) == (first, end, end - first)


def test_bounds_are_the_nearest_and_a_cut_has_at_least_one_frame() -> None:
    precise = cutter(GROUPS, KEYS, CutSettings("precise"))
    for asked, first, end in [
        (seconds(2.4, 4.6), 2, 5),
        (seconds(2.6, 2.7), 3, 4),
        (seconds(13.9, 20), 13, 14),
        (seconds(0, 0.1), 0, 1),
    ]:
        cut = precise.cut(*asked)
        assert (cut.first, cut.end) == (first, end)
        assert (
            abs(cut.duration_s - (asked[1] - asked[0])) <= FRAME_S or cut.frames == 1 or end == 14
        )


def test_a_moment_behind_the_end_is_refused() -> None:
    with pytest.raises(InputError, match=r"begins at 0\.560 s, but the video ends at 0\.560 s"):
        cutter(GROUPS, KEYS).cut(0.56, 1.0)


def test_leading_pictures_prevent_copying() -> None:
    leading = [0, 1, 2, 5, 3, 4, 6, 7]  # 3 and 4 are stored behind the key picture 5
    auto = cutter(leading, [0, 3])
    assert auto.cut(*seconds(5, 8)).packets is None
    assert auto.cut(*seconds(0, 3)).packets == 3
    fast = cutter(leading, [0, 3], CutSettings("fast"))
    assert fast.cut(*seconds(5, 8)).first == 0


def test_open_groups_and_hidden_packets_are_not_copied_in_auto() -> None:
    assert cutter(GROUPS, KEYS, open_groups=True).cut(*seconds(7, 11)).packets is None
    hidden = [0, 1, -1, 2, 3]  # a picture that only others look at
    assert cutter(hidden, [0], hidden=[2]).cut(*seconds(0, 4)).packets is None
    assert (
        cutter(hidden, [0], CutSettings(tolerance_s=0), hidden=[2]).cut(*seconds(0, 2)).packets
        is None
    )
    fast = cutter(hidden, [0], CutSettings("fast"), hidden=[2]).cut(*seconds(0, 4))
    assert (fast.frames, fast.packets) == (4, 5)


def test_a_file_with_odd_times_is_encoded_or_refused() -> None:
    odd = "some frames have the same time"
    assert cutter(GROUPS, KEYS, note=odd).cut(*seconds(7, 11)).packets is None
    with pytest.raises(InputError, match=r"same time.*choose auto or precise"):
        cutter(GROUPS, KEYS, CutSettings("fast"), note=odd)


def test_fast_without_a_key_picture_is_refused() -> None:
    with pytest.raises(InputError, match="no earlier frame can be decoded on its own"):
        cutter([0, 1, 2, 3], [2], CutSettings("fast")).cut(*seconds(1, 3))


@pytest.mark.parametrize(
    "values", [{"mode": "quick"}, {"tolerance_s": -0.1}, {"tolerance_s": float("inf")}]
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="must be"):
        CutSettings(**values)  # type: ignore[arg-type]
