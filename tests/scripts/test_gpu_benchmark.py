"""That `run_gpu_benchmark.py` runs through, on the CPU and in small; no figure is looked at."""

import json
import sys
from pathlib import Path

import av
import pytest

from tests.helpers.card_stand_in import put_in
from tests.helpers.random_models import tiny_config
from tests.scripts import run_gpu_benchmark
from vidground.benchmark import random_model
from vidground.video.nvdec import opens_card


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


@pytest.mark.skipif(opens_card("auto"), reason="there is a card")
def test_without_a_card_its_decoders_are_left_out(rows) -> None:
    assert "left out" in rows()["decoding on the card"]["value"]


def test_a_cards_decoders_are_compared_with_the_processor(rows, monkeypatch) -> None:
    monkeypatch.setattr("vidground.video.nvdec.opens_card", lambda _: True)
    put_in(monkeypatch)
    found = rows()
    assert "2 videos, 8 at once" in found["decoding on the card"]["value"]
    assert "the card" in found["decoding on the processor"]["value"]
    assert (found["equal pictures"]["value"], found["equal pictures"]["met"]) == ("4 of 4", True)


def test_decoders_that_fail_do_not_end_the_rest(rows, monkeypatch) -> None:
    monkeypatch.setattr("vidground.video.nvdec.opens_card", lambda _: True)

    def fails(*_: object) -> None:
        raise av.ExternalError(0, "a fault")

    put_in(monkeypatch, fails)
    found = rows()
    assert "failed: " in found["decoding on the card"]["value"]
    assert "took" in found


def test_without_pyav_the_rest_is_measured(rows, monkeypatch) -> None:
    monkeypatch.setattr(run_gpu_benchmark, "find_spec", lambda _: None)
    found = rows()
    assert "not installed" in found["from files"]["value"]
    assert "generation, batch 2" in found
    assert "against the released procedure" not in found
