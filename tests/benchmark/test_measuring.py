import pytest
import torch

from vidground.benchmark import measuring
from vidground.benchmark.measuring import (
    DECODE,
    STAGES,
    VISION,
    StageMeter,
    best_seconds,
    device_name,
    measure_ceilings,
    peak_bytes,
)

CPU = torch.device("cpu")
MB = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, and one of processor time; set both by hand."""
    now = {"clock": 0.0, "cpu": 0.0}
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now["clock"])
    monkeypatch.setattr(measuring.time, "process_time", lambda: now["cpu"])
    return now


def test_only_time_inside_a_stage_is_counted(clock) -> None:
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


def test_peak_memory_is_that_of_the_stage_alone() -> None:
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


def test_memory_is_none_where_the_system_does_not_report_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(measuring, "_STATUS", tmp_path / "nothing")
    monkeypatch.setattr(measuring, "_CLEAR", tmp_path / "no" / "folder")
    meter = StageMeter(CPU)
    with meter.stage(DECODE):
        pass
    assert meter.usage[DECODE].peak_bytes is None


def test_rates_are_operations_and_bytes_over_the_shortest_time(monkeypatch) -> None:
    runs = []

    def half_a_second(run, device, **_):
        run()
        runs.append(device)
        return 0.5

    monkeypatch.setattr(measuring, "best_seconds", half_a_second)
    found = measure_ceilings(CPU, torch.float32)
    assert found.flops_per_s == 2 * 2048**3 / 0.5
    assert found.bytes_per_s == 2 * 4 * 2**26 / 0.5
    assert runs == [CPU, CPU]


@pytest.mark.parametrize(
    ("free", "side", "copied"),
    [(64 << 30, 2048, 2**28), (160 << 20, 1024, 20 << 20), (0, 256, 1 << 20)],
)
def test_measuring_uses_at_most_a_share_of_the_free_memory(
    free: int, side: int, copied: int, monkeypatch
) -> None:
    monkeypatch.setattr(measuring, "free_bytes", lambda _: free)
    monkeypatch.setattr(measuring, "best_seconds", lambda *_: 1.0)
    found = measure_ceilings(CPU, torch.float32)
    assert found.flops_per_s == 2 * side**3
    assert found.bytes_per_s == 2 * copied


def test_the_fastest_run_after_the_first_counts(monkeypatch) -> None:
    durations = iter([9.0, 3.0, 2.0, 5.0])
    now = [0.0]

    def run() -> None:
        now[0] += next(durations)

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    assert best_seconds(run, CPU, min_s=1.0) == 2.0
    with pytest.raises(StopIteration):
        next(durations)


def test_a_device_has_a_name() -> None:
    assert device_name(CPU).strip()
