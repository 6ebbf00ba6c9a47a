"""The estimate of what is left, by hand."""

import pytest

from vidground.cli.reporting.remaining import RemainingTime, spoken


def test_the_speed_so_far_says_what_is_left() -> None:
    remaining = RemainingTime({"a": 100.0, "b": 300.0, "c": 600.0})
    assert remaining.left_s(0.0) is None
    remaining.started("skipped", 1.0)
    remaining.finished("skipped")
    remaining.started("a", 5.0)
    assert remaining.left_s(7.0) is None
    remaining.moved("a", 0.5)
    assert remaining.left_s(7.0) == pytest.approx(2 * 950 / 50)
    remaining.finished("a")
    assert remaining.left_s(10.0) == pytest.approx(5 * 900 / 100)
    remaining.started("b", 10.0)
    remaining.moved("b", 1 / 3)
    assert remaining.left_s(20.0) == pytest.approx(15 * 800 / 200)
    remaining.started("c", 20.0)  # while b goes on
    remaining.moved("c", 0.5)
    assert remaining.left_s(25.0) == pytest.approx(20 * 500 / 500)
    remaining.finished("b")
    remaining.finished("c")
    assert remaining.left_s(99.0) == 0


def test_durations_as_people_say_them() -> None:
    assert [spoken(s) for s in (0.4, 59, 90, 3540, 3600, 12_000)] == [
        *("0 s", "59 s", "2 min", "59 min", "1 h 0 min", "3 h 20 min"),
    ]


def test_a_video_that_failed_says_nothing_about_the_speed() -> None:
    remaining = RemainingTime({"bad": 1e9, "a": 100.0, "b": 100.0})
    remaining.started("bad", 0.0)
    remaining.finished("bad", worked=False)
    assert remaining.left_s(1.0) is None
    remaining.started("a", 1.0)
    remaining.finished("a")
    assert remaining.left_s(3.0) == pytest.approx(3.0)
