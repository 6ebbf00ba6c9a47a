"""That `run_gpu_benchmark.py` runs through, on the CPU and in small; no figure is looked at."""

import json
import sys
from pathlib import Path

import pytest
import run_gpu_benchmark
from test_random_model import tiny_config

from vidground import random_model


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """Runs the script and returns its table, by name."""

    def run() -> dict[str, dict[str, object]]:
        small = "--device cpu --size mid --tokens 4 --batch 2 --frames 1 2 --videos 2 --theirs 1"
        table = tmp_path / "table.json"
        arguments = [str(tmp_path), *small.split(), "--seconds", "2", "--height", "90"]
        monkeypatch.setattr(random_model, "mid_config", tiny_config)
        monkeypatch.setattr(sys, "argv", ["script", *arguments, "--json", str(table)])
        run_gpu_benchmark.main()
        return {row["name"]: row for row in json.loads(Path(table).read_text())}

    return run


def test_every_part_has_its_rows(rows) -> None:
    found = rows()
    for name, target in {
        "vision, best": ">= 50 %",
        "generation, batch 1": ">= 50%",
        "against the released procedure": ">= 10",
    }.items():
        assert found[name]["target"] == target
        assert isinstance(found[name]["met"], bool)
    assert found["tokens/s, batch 2 against 1"]["met"] is None  # the target is of batch 32
    assert "2 videos, 4 tokens each" in found
    assert "released: tokens" in found


def test_without_pyav_the_rest_is_measured(rows, monkeypatch) -> None:
    monkeypatch.setattr(run_gpu_benchmark, "find_spec", lambda _: None)
    found = rows()
    assert "not installed" in found["from files"]["value"]
    assert "generation, batch 2" in found
    assert "against the released procedure" not in found
