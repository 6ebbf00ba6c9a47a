"""Packet lists tell which times can be used."""

from fractions import Fraction

import pytest

from vidground.video.packets import MISSING, PacketList, Packets


def listed(
    times: list[tuple[int | None, int | None]],
    *,
    hidden: tuple[int, ...] = (),
    by_decoding: bool = False,
) -> Packets:
    packets = PacketList(Fraction(1, 1000))
    for index, (pts, dts) in enumerate(times):
        packets.append(
            pts, dts, duration=None, key=index == 0, shown=index not in hidden, damaged=index == 1
        )
    return packets.packets(by_decoding=by_decoding, open_groups=False)


def test_presentation_times_are_used_where_complete() -> None:
    packets = listed([(0, -40), (80, 0), (40, 40)])
    assert packets.times.tolist() == [0, 80, 40]
    assert packets.complete
    assert packets.durations.tolist() == [0, 0, 0]
    assert packets.keys.tolist() == [True, False, False]
    assert (len(packets), packets.damaged, packets.jumps) == (3, 1, ())


@pytest.mark.parametrize("by_decoding", [False, True])
def test_decoding_times_stand_in(by_decoding: bool) -> None:
    packets = listed([(0, 0), (80 if by_decoding else None, 40)], by_decoding=by_decoding)
    assert packets.times.tolist() == [0, 40]
    assert not packets.complete


def test_missing_times_are_marked() -> None:
    packets = listed([(0, None), (None, None)])
    assert packets.times.tolist() == [0, MISSING]
    assert not packets.complete


def test_a_hidden_packet_needs_no_time() -> None:
    assert listed([(0, 0), (None, None)], hidden=(1,)).complete


def test_only_steps_back_of_more_than_a_second_are_jumps() -> None:
    times = [0, 40, 5000, 4000, 2999, None, 1999, 998]
    packets = listed([(time, time) for time in times])
    assert packets.jumps == (4, 7)


def test_times_beyond_reason_are_missing() -> None:
    assert listed([(1 << 61, 0), (-(1 << 61), 40)]).times.tolist() == [0, 40]
    assert listed([(1 << 61, None), (0, None)]).times.tolist() == [MISSING, 0]
