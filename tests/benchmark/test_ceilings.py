import pytest
import torch

from vidground.benchmark import ceilings
from vidground.benchmark.ceilings import best_seconds, device_name, measure_ceilings

CPU = torch.device("cpu")


def test_rates_are_operations_and_bytes_over_the_shortest_time(monkeypatch) -> None:
    runs = []

    def half_a_second(run, device, **_):
        run()
        runs.append(device)
        return 0.5

    monkeypatch.setattr(ceilings, "best_seconds", half_a_second)
    found = measure_ceilings(CPU, torch.float32)
    assert found.flops_per_s == 2 * 2048**3 / 0.5
    assert found.bytes_per_s == 2 * 4 * 2**26 / 0.5
    assert runs == [CPU, CPU]


@pytest.mark.parametrize(
    ("free", "side", "copied"),
    [(64 << 30, 2048, 2**28), (160 << 20, 1024, 20 << 20), (0, 256, 1 << 20)],
)
def test_no_more_is_taken_than_a_share_of_the_free_memory(
    free: int, side: int, copied: int, monkeypatch
) -> None:
    monkeypatch.setattr(ceilings, "free_bytes", lambda _: free)
    monkeypatch.setattr(ceilings, "best_seconds", lambda *_: 1.0)
    found = measure_ceilings(CPU, torch.float32)
    assert found.flops_per_s == 2 * side**3
    assert found.bytes_per_s == 2 * copied


def test_the_first_run_does_not_count_and_the_best_one_does(monkeypatch) -> None:
    durations = iter([9.0, 3.0, 2.0, 5.0])
    now = [0.0]

    def run() -> None:
        now[0] += next(durations)

    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: now[0])
    assert best_seconds(run, CPU, least_s=1.0) == 2.0
    with pytest.raises(StopIteration):
        next(durations)


def test_a_device_has_a_name() -> None:
    assert device_name(CPU).strip()
