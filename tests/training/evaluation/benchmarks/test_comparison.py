"""Scores beside published ones."""

import json
from pathlib import Path

import pytest

from vidground.training.evaluation.benchmarks.comparison import (
    Compared,
    compare,
    comparison_table,
)
from vidground.training.evaluation.benchmarks.published import ROWS, row_for


def test_differences_and_intervals_by_hand() -> None:
    metrics = {
        "scores": {"R@0.5": 0.483, "R@0.7": 0.3, "mIoU": 0.4},
        "intervals": {
            "R@0.5": {"low": 0.46, "high": 0.51},
            "R@0.7": {"low": 0.28, "high": 0.32},
        },
    }
    half, most, mean = compare(metrics, "charades", "d2vlm-fpo")
    assert half.difference == pytest.approx(48.3 - 50.3)
    assert (half.within, most.within, mean.within) == (True, False, None)
    assert (mean.published, mean.difference, mean.low) == (None, None, None)
    lines = comparison_table([half, most, mean], "charades", "d2vlm-fpo").splitlines()
    assert lines[4] == "| R@0.5 | 48.3 | 46.0 to 51.0 | 50.3 | -2.0 | yes |"
    assert lines[5] == "| R@0.7 | 30.0 | 28.0 to 32.0 | 26.0 | +4.0 | no |"
    assert lines[6] == "| mIoU | 40.0 | - | - | - | - |"


def test_etbench_is_compared_under_the_rules_of_the_row() -> None:
    def scored(value: float) -> dict[str, object]:
        return {
            "tasks": {"tvg": {"F1": value, "mIoU": 0.1}},
            "task_intervals": {},
            "merged": {},
            "merged_intervals": {},
        }

    metrics = {"official": scored(0.4), "strict": scored(0.6)}
    for row, ours, published in (("etchat", 40.0, 38.6), ("d2vlm-fpo", 60.0, 60.2)):
        first, *others = compare(metrics, "etbench", row)
        assert (first.column, first.ours, first.published) == ("tvg F1", ours, published)
        assert all(item.ours is None and item.published is not None for item in others)
        names = [item.column for item in (first, *others)]
        assert names == sorted(names, key=names.index)
        assert set(names) == set(ROWS[row].scores["etbench"])


def test_what_was_not_computed_is_shown_as_missing() -> None:
    metrics = {"scores": {"f1": 0.25, "cider": 0.1}, "intervals": {}}
    found = {item.column: item for item in compare(metrics, "youcook2", "d2vlm-fpo")}
    assert found["CIDEr"].ours == pytest.approx(10.0)
    assert found["SODA_c"] == Compared("SODA_c", None, None, None, 3.2)


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("d2vlm", "d2vlm-fpo"),
        ("runs/fpo", "d2vlm-fpo"),
        ("d2vlm-mcqa", "d2vlm-mcqa"),
        ("D2VLM_MCQA_enhanced", "d2vlm-mcqa"),
        ("PolyU-ChenLab/ETChat-Phi3-Mini-Stage-3", "etchat"),
        ("models/et-chat", "etchat"),
    ],
)
def test_models_are_compared_with_their_own_row(model: str, row: str) -> None:
    assert row_for(model) == row


def test_merged_columns_are_the_means_that_the_tasks_give() -> None:
    """The published means of F1(gnd) and F1(cap) agree with the published tasks."""
    for name in ("d2vlm-fpo", "etchat"):
        scores = ROWS[name].scores["etbench"]
        grounding = sum(scores[f"{task} F1"] for task in ("tvg", "epm", "tal", "evs", "vhd")) / 5
        captions = (scores["dvc F1"] + scores["slc F1"]) / 2
        assert scores["F1(gnd)"] == pytest.approx(grounding, abs=0.06)
        assert scores["F1(cap)"] == pytest.approx(captions, abs=0.06)


@pytest.mark.parametrize(
    ("time_tokens", "row"), [("matching", "etchat"), ("evidence", "d2vlm-fpo")]
)
def test_a_folder_is_compared_with_the_model_of_its_kind(
    tmp_path: Path, time_tokens: str, row: str
) -> None:
    folder = tmp_path / "etchat-like"
    folder.mkdir()
    config = {"model_type": "d2vlm", "time_tokens": time_tokens}
    (folder / "config.json").write_text(json.dumps(config))
    assert row_for(str(folder)) == row
