"""Whatever is read may be damaged or hostile: it is refused in a line, soon, and nothing else."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner

from tests.helpers.annotation_files import sft_sample
from tests.helpers.hostile_case import HostileCase
from tests.helpers.hostile_inputs import all_cases
from tests.helpers.result_makers import TWO
from vidground.cli.main import cli

CASES = all_cases()
LIMIT_S = 30
"""Far above what any case takes, so that a busy machine fails none."""
LONGEST_LINE = 2000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a good result and a film that is none; an alarm ends what hangs."""
    monkeypatch.chdir(tmp_path)
    TWO.save("good.json")
    (tmp_path / "film.mp4").write_bytes(b"not a film")
    (tmp_path / "a.mp4").write_bytes(b"not a film")

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"still running after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_S)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_the_corpus_is_large_and_its_names_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 200


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_it_is_refused_in_a_line(case: HostileCase, folder: Path) -> None:
    case.write(folder)
    before = set(folder.iterdir())
    result = CliRunner().invoke(cli, case.command)
    said = result.stderr
    assert result.exit_code in (1, 2), said[:500]
    assert isinstance(result.exception, SystemExit), repr(result.exception)[:500]
    assert "Traceback" not in said
    assert "internal error" not in said, said[:500]
    assert said.strip()
    assert max(map(len, said.splitlines())) <= LONGEST_LINE
    assert set(folder.iterdir()) - before <= {folder / "made"}


def test_what_the_cases_change_is_accepted_unchanged(folder: Path) -> None:
    (folder / "samples.json").write_text(json.dumps([sft_sample(video="a.mp4")]))
    for command in (
        ("convert", "good.json", "--to", "edl,srt"),
        ("convert", "good.srt", "--from", "good.json", "--to", "vtt", "-o", "made"),
        ("data", "validate", "samples.json", "--video-root", "."),
    ):
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == 0, result.stderr
