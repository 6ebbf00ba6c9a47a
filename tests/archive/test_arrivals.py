"""Which files are complete, told from what is seen of them at given times."""

from pathlib import Path

from vidground.archive.arrivals import Arrivals
from vidground.storage.files import FileState

A, B = Path("a.mp4"), Path("b.mp4")


def state(size: int, *, mtime_ns: int = 0, inode: int = 1) -> FileState:
    return FileState(size, mtime_ns, inode)


def test_a_file_is_told_once_it_has_stopped_growing() -> None:
    arrivals = Arrivals(5.0)
    assert arrivals.look({A: state(10)}, 0.0) == []
    assert arrivals.look({A: state(20)}, 4.0) == []
    assert arrivals.look({A: state(20)}, 8.9) == []
    assert arrivals.waiting == 1
    assert arrivals.look({A: state(20)}, 9.0) == [A]
    assert arrivals.look({A: state(20)}, 99.0) == []
    assert arrivals.waiting == 0


def test_any_sign_of_a_change_counts() -> None:
    for changed in (state(11), state(10, mtime_ns=1), state(10, inode=2)):
        arrivals = Arrivals(5.0)
        for now_s in (0.0, 5.0):
            told = arrivals.look({A: state(10)}, now_s)
        assert told == [A]
        assert arrivals.look({A: changed}, 6.0) == []
        assert arrivals.look({A: changed}, 10.9) == []
        assert arrivals.look({A: changed}, 11.0) == [A]


def test_files_are_told_in_their_order_each_at_its_time() -> None:
    arrivals = Arrivals(1.0)
    arrivals.look({B: state(1), A: state(1)}, 0.0)
    arrivals.look({B: state(1), A: state(2)}, 0.5)
    assert arrivals.look({B: state(1), A: state(2)}, 1.0) == [B]
    assert arrivals.look({B: state(1), A: state(2)}, 1.5) == [A]


def test_a_file_that_went_away_and_came_back_is_told_again() -> None:
    arrivals = Arrivals(1.0)
    arrivals.look({A: state(1)}, 0.0)
    assert arrivals.look({A: state(1)}, 1.0) == [A]
    assert arrivals.look({}, 2.0) == []
    assert arrivals.look({A: state(1)}, 3.0) == []
    assert arrivals.look({A: state(1)}, 4.0) == [A]


def test_a_file_can_be_asked_for_again() -> None:
    arrivals = Arrivals(1.0)
    arrivals.look({A: state(1)}, 0.0)
    assert arrivals.look({A: state(1)}, 1.0) == [A]
    arrivals.again(A)
    assert arrivals.waiting == 1
    assert arrivals.look({A: state(1)}, 1.1) == [A]
    arrivals.again(B)  # gone meanwhile
    assert arrivals.waiting == 0
