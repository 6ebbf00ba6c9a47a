"""Signals that arrive in a block that must not be interrupted."""

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from vidground.generation.held_signals import held_signals


@pytest.fixture
def arrived() -> Iterator[list[int]]:
    """The SIGUSR1 signals that reached the handler."""
    numbers: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        numbers.append(number)

    before = signal.signal(signal.SIGUSR1, handle)
    yield numbers
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_runs_when_the_block_is_left(arrived: list[int]) -> None:
    with held_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert arrived == []
    assert arrived == [signal.SIGUSR1]
    os.kill(os.getpid(), signal.SIGUSR1)
    assert len(arrived) == 2


@pytest.mark.usefixtures("signals_arrive")
def test_ctrl_c_ends_the_program_after_the_block_and_other_handlers_are_restored(
    arrived: list[int],
) -> None:
    done: list[bool] = []

    def work() -> None:
        with held_signals():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    os.kill(os.getpid(), signal.SIGUSR1)
    assert arrived == [signal.SIGUSR1]


def test_a_handler_runs_after_an_error_as_well(arrived: list[int]) -> None:
    def work() -> None:
        with held_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert arrived == [signal.SIGUSR1]


def test_ignored_signals_stay_ignored(arrived: list[int]) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with held_signals():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGUSR1)
    assert arrived == []


@pytest.mark.usefixtures("arrived")
def test_other_threads_defer_nothing() -> None:
    handlers: list[object] = []

    def work() -> None:
        with held_signals():
            handlers.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGUSR1)]
