"""Packet lists tell which times can be used."""

from fractions import Fraction

import pytest

from vidground.video.packets import MISSING, PacketList, Packets


def listed(
    times: list[tuple[int | None, int | None]],
    *,
    hidden: tuple[int, ...] = (),
    by_decoding: bool = False,
    restartable: bool = False,
    keys: tuple[int, ...] = (0,),
    damaged: tuple[int, ...] = (1,),
) -> Packets:
    packets = PacketList(Fraction(1, 1000), restartable=restartable)
    for index, (pts, dts) in enumerate(times):
        packets.append(
            pts,
            dts,
            duration=None,
            key=index in keys,
            shown=index not in hidden,
            damaged=index in damaged,
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


def test_hidden_packets_before_a_later_part_are_no_jump() -> None:
    shown_times = [0, 2000, 4000]
    hidden_times = [6000, 8000, 1000, 3000]  # behind the first part, and before the second
    times = [(time, time) for time in [*shown_times, *hidden_times, 6000, 8000]]
    assert listed(times, hidden=(3, 4, 5, 6)).jumps == ()
    assert listed(times).jumps == (5,)


def test_a_part_may_begin_as_far_back_as_pictures_are_reordered() -> None:
    assert listed([(0, -3000), (9000, 6000), (10_000, 4000)]).jumps == ()


@pytest.mark.parametrize(
    ("times", "keys", "jumps"),
    [
        ([0, 40, 80, 120, 20, 60], (0,), ()),  # a tenth of a second
        ([0, 40, 80, 120, 19, 60], (0,), (4,)),
        ([0, 40, 80, 120, 100, 140], (0, 4), (4,)),  # of any size where a part can begin
        ([0, 40, 80, 10_080, 10_120], (0,), ()),  # ten seconds
        ([0, 40, 80, 10_081, 10_121], (0,), (3,)),
        ([0, 15_000, 30_000, 45_000], (0,), ()),  # a picture every 15 seconds
    ],
)
def test_clocks_that_may_restart_jump_from_a_tenth_of_a_second_back_and_ten_ahead(
    times: list[int], keys: tuple[int, ...], jumps: tuple[int, ...]
) -> None:
    pairs: list[tuple[int | None, int | None]] = [(time, time) for time in times]
    assert listed(pairs, keys=keys, restartable=True).jumps == jumps


def test_only_marks_of_damage_far_from_a_join_count() -> None:
    pairs: list[tuple[int | None, int | None]] = [(40 * k, 40 * k) for k in range(20)]
    packets = listed(pairs, keys=(0, 10), damaged=(3, 6, 8, 10), restartable=True)
    assert (packets.damaged, packets.joins) == (2, frozenset({8, 10}))
    assert listed(pairs, keys=(0, 10), damaged=(3, 6, 8, 10)).damaged == 4


def test_times_beyond_reason_are_missing() -> None:
    assert listed([(1 << 61, 0), (-(1 << 61), 40)]).times.tolist() == [0, 40]
    assert listed([(1 << 61, None), (0, None)]).times.tolist() == [MISSING, 0]
