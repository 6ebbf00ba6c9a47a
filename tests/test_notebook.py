"""The notebook's cells run in order, in a folder that holds the examples."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.paths import EXAMPLES

CELLS = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))["cells"]


def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(EXAMPLES / "film_2.mp4", tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    printed = capsys.readouterr().out
    assert "a green triangle grows -> (Moment(" in printed
    assert "a red circle moves left -> not in this video" in printed
    assert (tmp_path / "film_2.srt").stat().st_size > 0


def test_the_notebook_is_stored_without_output() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
