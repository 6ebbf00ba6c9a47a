"""Results as lines for people."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.paths import EXAMPLES
from tests.helpers.result_makers import answer, captions
from vidground.cli.main import cli
from vidground.cli.reporting.answer_lines import MOST_EVENTS, answer_lines
from vidground.results.formats import render
from vidground.results.types import Event, Groundings, Moment


def test_captions_have_a_line_each_and_many_are_counted() -> None:
    assert list(answer_lines(captions(Event(61.5, 3700, "a \x1b[31m dog", 0.756)))) == [
        r"  00:01:01.500 - 01:01:40.000  a \x1b[31m dog  (score 0.76)"
    ]
    many = captions(*(Event(n, n + 1, "x") for n in range(MOST_EVENTS + 5)))
    lines = list(answer_lines(many))
    assert len(lines) == MOST_EVENTS + 1
    assert lines[-1] == "  … and 5 more"


def test_every_query_has_its_moments_and_the_answer() -> None:
    found = answer("a goal", Moment(2.0, 4.0, 0.7), Moment(0.0, 1.0))
    assert list(answer_lines(Groundings((found,)))) == [
        '  "a goal"',
        "    00:00:02.000 - 00:00:04.000  (score 0.70)",
        "    00:00:00.000 - 00:00:01.000",
        "    answer: It is from 1.0 to 2.0 seconds.",
    ]


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        ({"best_score": None}, "the answer refers to no moment"),
        ({"best_score": 0.4321}, "the best moment scores 0.43, below the threshold of 0.50"),
        ({}, "the answer refers to no moment that scores 0.50 or more"),
    ],
)
def test_what_was_not_found_has_a_reason(quality: dict[str, float | None], reason: str) -> None:
    result = Groundings((answer("a\ncard", quality=quality),))
    assert next(answer_lines(result)) == rf'  "a\ncard": not found, {reason}'
    assert render(result, "txt") == f"[not found] a card: {reason}\n"
    assert answer("a card", Moment(0, 1, 0.9)).not_found_reason is None


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, [*arguments, "--model", "toy"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("film.mp4").write_bytes((EXAMPLES / "film_2.mp4").read_bytes())
    return "film.mp4"


def test_a_query_shows_new_and_stored_answers(film: str) -> None:
    query = ["query", film, "--text", "a green triangle grows", "--text", "a red cross shrinks"]
    assert run(*query, "--quiet").stderr == ""
    again = run(*query)
    assert f"skipped: {film}" in again.stderr
    new = run(*query, "--overwrite")
    for shown in (again.stderr, new.stderr):
        assert '  "a green triangle grows"\n    00:00:0' in shown
        assert '  "a red cross shrinks": not found, the answer refers to no moment\n' in shown
        assert "    answer: The event does not happen.\n" in shown
    to_stdout = run(*query, "--out", "txt", "-o", "-")
    assert "[not found] a red cross shrinks: the answer refers to no moment\n" in to_stdout.stdout
    assert "answer:" not in to_stdout.stderr


def test_captions_are_shown_at_a_terminal_only(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "triangle" not in run("caption", film).stderr
    monkeypatch.setattr("vidground.cli.running.batch.on_terminal", lambda: True)
    assert "a green triangle grows  (score 0." in run("caption", film, "--overwrite").stderr
    assert "triangle" not in run("caption", film, "--overwrite", "--quiet").stderr
