import os
import signal
import subprocess
import sys
import textwrap

import pytest

from vidground.training.stopping import StopRequest, TrainingInterrupted


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = StopRequest()
    with stop.on_signals():
        os.kill(os.getpid(), number)
        assert (stop.number, stop.name) == (number, number.name)
        os.kill(os.getpid(), number)  # as launchers repeat it
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("signals_arrive")
def test_a_later_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(stop, "_since_s", -1e9)
        with pytest.raises(TrainingInterrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.number == signal.SIGINT


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_survives_the_first_sigterm_and_no_second() -> None:
    code = """
        import os, signal
        from vidground.training.stopping import leave_signals_to_parent
        leave_signals_to_parent(0)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        print("alive", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        print("alive", flush=True)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "alive\n"
    assert ended.returncode == -signal.SIGTERM
