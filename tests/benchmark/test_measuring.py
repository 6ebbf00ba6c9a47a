import pytest
import torch

from vidground.benchmark import measuring as stage_meter
from vidground.benchmark.measuring import DECODE, STAGES, VISION, StageMeter, peak_bytes

CPU = torch.device("cpu")
MB = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, and one of processor time; set both by hand."""
    now = {"clock": 0.0, "cpu": 0.0}
    monkeypatch.setattr(stage_meter.time, "perf_counter", lambda: now["clock"])
    monkeypatch.setattr(stage_meter.time, "process_time", lambda: now["cpu"])
    return now


def test_time_inside_a_stage_is_added_up_and_time_between_is_not(clock) -> None:
    meter = StageMeter(CPU)
    for name, seconds in ((DECODE, 2.0), (VISION, 1.0), (DECODE, 3.0)):
        clock["clock"] += 100
        with meter.stage(name):
            clock["clock"] += seconds
            clock["cpu"] += seconds / 2
    assert [(n, u.seconds, u.cpu_s) for n, u in meter.usage.items()] == [
        (DECODE, 5.0, 2.5),
        (VISION, 1.0, 0.5),
    ]
    assert list(meter.usage) == [name for name in STAGES if name in meter.usage]


def test_a_stage_that_fails_is_counted_too(clock) -> None:
    meter = StageMeter(CPU)

    def fail() -> None:
        with meter.stage(DECODE):
            clock["clock"] += 1
            raise ValueError("of the stage")

    with pytest.raises(ValueError, match="of the stage"):
        fail()
    assert meter.usage[DECODE].seconds == 1.0


def test_memory_is_the_most_of_the_stage_and_not_of_earlier_ones() -> None:
    meter = StageMeter(CPU)
    if peak_bytes(CPU) is None:
        pytest.skip("this system does not tell")
    with meter.stage(DECODE):
        del_me = torch.ones(100 * MB // 4)
        del del_me
    with meter.stage(VISION):
        pass
    most, later = meter.usage[DECODE].peak_bytes, meter.usage[VISION].peak_bytes
    assert most is not None
    assert later is not None
    assert most - later > 90 * MB


def test_a_system_that_does_not_tell_memory(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(stage_meter, "_STATUS", tmp_path / "nothing")
    monkeypatch.setattr(stage_meter, "_CLEAR", tmp_path / "no" / "folder")
    meter = StageMeter(CPU)
    with meter.stage(DECODE):
        pass
    assert meter.usage[DECODE].peak_bytes is None
