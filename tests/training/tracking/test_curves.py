import json
from pathlib import Path

import pytest

from vidground.errors import InputError
from vidground.training.tracking.curves import CurvesPicture, draw_curves, read_curves

PNG = b"\x89PNG\r\n\x1a\n"
LINES = [
    {"step": 1, "loss": 3.0, "learning_rate": 1e-3, "epoch": 0.5},
    {"step": 2, "loss": 2.0, "learning_rate": 5e-4, "epoch": 1.0},
    {"step": 2, "eval_loss": 2.5, "eval_runtime": 1.0, "eval_samples_per_second": 4.0},
    {"step": 2, "train_runtime": 9.0, "train_loss": 2.5},
]


def run_with(folder: Path, lines: list[dict[str, float]], end: str = "") -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return folder


def test_curves_are_read_by_name_without_timings(tmp_path: Path) -> None:
    assert read_curves(run_with(tmp_path, LINES, end='{"step": 3, "lo')) == {
        "loss": [(1, 3.0), (2, 2.0)],
        "learning_rate": [(1, 1e-3), (2, 5e-4)],
        "eval_loss": [(2, 2.5)],
    }


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    run = run_with(tmp_path, LINES)
    assert draw_curves(run) == run / "curves.png"
    assert (run / "curves.png").read_bytes().startswith(PNG)
    assert draw_curves(run, tmp_path / "curves.svg") == tmp_path / "curves.svg"
    assert "learning rate" in (tmp_path / "curves.svg").read_text()


def test_a_run_draws_after_evaluations_and_at_the_end(tmp_path: Path) -> None:
    picture = CurvesPicture(run_with(tmp_path, LINES[:2]))
    picture.numbers(2, {"loss": 2.0})
    assert not (tmp_path / "curves.png").exists()
    picture.numbers(2, {"eval_loss": 2.0})
    assert (tmp_path / "curves.png").exists()
    (tmp_path / "curves.png").unlink()
    picture.end()
    assert (tmp_path / "curves.png").exists()


def test_an_empty_log_gives_no_picture(tmp_path: Path) -> None:
    assert draw_curves(run_with(tmp_path, [])) is None


def test_a_folder_without_a_log_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*; name a run's folder"):
        draw_curves(tmp_path)


def test_a_damaged_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1\n{"step": 2, "loss": 1}\n')
    with pytest.raises(InputError, match="line 1 is not JSON"):
        draw_curves(tmp_path)
