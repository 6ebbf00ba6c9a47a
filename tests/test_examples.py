"""The scripts in examples/ import what exists."""

import runpy
import sys

import pytest

from tests.helpers.paths import ROOT


@pytest.mark.parametrize("name", ["ablation", "make_films", "make_self_test_numbers", "train_toy"])
def test_a_script_can_be_started(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    monkeypatch.delitem(sys.modules, "train_toy", raising=False)
    assert "main" in runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def test_every_ablation_comes_after_the_run_it_starts_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    script = runpy.run_path(str(ROOT / "examples" / "ablation.py"))
    known = {script["EVIDENCE"], script["MATCHING"]}
    for name, run in script["RUNS"].items():
        assert run.start in known
        known.add(name)
    assert set(script["ROWS"].values()) <= known
