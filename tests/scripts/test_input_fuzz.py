"""A few mutated files of every kind; `run_input_fuzz.py` makes thousands."""

from pathlib import Path

from tests.scripts.run_input_fuzz import read_mutated


def test_mutated_files_are_read_or_refused_in_a_line(tmp_path: Path) -> None:
    outcomes = list(read_mutated(200, seed=1, folder=tmp_path))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    for kind in ("config", "export", "record", "result", "annotations", "yaml"):
        refused = {o.error is not None for o in outcomes if o.kind == kind}
        assert refused == {True, False}, kind  # neither harmless nor hopeless
