"""`vidground search`: the order of moments, what is printed, what is escaped."""

import json
import math
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.result_makers import VIDEO, answer, captions
from vidground.cli.main import cli
from vidground.errors import VideoError
from vidground.results.types import Event, GroundingResult, Groundings, Moment
from vidground.review.search import rank, words
from vidground.settings import GroundingSettings, IsolationSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    Path("a b.mp4").write_bytes(b"film")
    here = replace(VIDEO, path="a b.mp4", size_bytes=4)
    events = (
        Event(83.44, 90.0, "a dog eats grass in the garden"),
        Event(3, 4, "a dog", 0.2),
        Event(1, 2, "rain"),
    )
    replace(captions(*events), video=here).save("out/a.json")
    gone = replace(VIDEO, path="gone\n.mp4")
    Groundings((answer("a dog", Moment(3725, 3726, 0.9), video=gone),)).save("out/b.query.json")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["search", *arguments])


def test_the_best_captions_come_first_with_times_and_scores() -> None:
    result = run("Dogs", "out")
    assert result.exit_code == 0, result.stderr
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert [line[:2] + line[3:] for line in lines] == [
        ["gone\\n.mp4", "01:02:05.0 - 01:02:06.0", "a dog"],
        ["a b.mp4", "00:00:03.0 - 00:00:04.0", "a dog"],
        ["a b.mp4", "00:01:23.4 - 00:01:30.0", "a dog eats grass in the garden"],
    ]
    scores = [float(line[2]) for line in lines]
    assert scores[0] == scores[1] > scores[2] > 0
    assert "3 found among 4 moments" in result.stderr


def test_limit_and_min_score_shorten_the_list() -> None:
    result = run("dog", "out", "--limit", "1")
    assert len(result.stdout.splitlines()) == 1
    assert "3 found among 4 moments, showing the best 1 (--limit)" in result.stderr
    assert len(run("dog", "out", "--min-score", "0.6").stdout.splitlines()) == 2


def test_json_holds_all_fields_and_nothing_found_is_an_empty_list() -> None:
    first, second, _ = json.loads(run("dog", "out", "--json").stdout)
    assert (first["video"], first["found"], first["text"]) == ("gone\n.mp4", False, "a dog")
    assert (second["start_s"], second["end_s"], second["found"]) == (3.0, 4.0, True)
    none = run("elephant", "out", "--json")
    assert (none.exit_code, json.loads(none.stdout)) == (0, [])


def test_hostile_captions_reach_a_terminal_as_text() -> None:
    captions(Event(0, 1, "dog \x1b]8;;http://x\x1b\\\u202ekcilc\x1b[2J\nnext")).save("c.json")
    result = run("dog", "c.json")
    assert result.stdout.isprintable() is False  # the line's own end
    assert result.stdout.rstrip("\n").isprintable()
    assert len(result.stdout.splitlines()) == 1


def test_links_appear_only_on_a_terminal_and_for_existing_files(folder: Path) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "vidground.cli.main", "search", "dog", "out", "-q"]
    environment = {"TERM": "xterm", "PATH": ""}
    subprocess.run(command, stdout=end, check=True, env=environment)
    subprocess.run(command, stdout=end, check=True, env=environment | {"TERM": "dumb"})
    os.close(end)
    shown = os.read(terminal, 10_000).decode().splitlines()
    uri = (folder / "a b.mp4").as_uri()
    path = f"\x1b]8;;{uri}\x1b\\a b.mp4\x1b]8;;\x1b\\"
    times = f"\x1b]8;;{uri}#t=3.000\x1b\\00:00:03.0 - "
    assert shown[1].startswith(f"{path}  {times}")
    assert "\x1b" not in shown[0]
    assert "\x1b" not in "".join(shown[3:])
    assert "\x1b" not in run("dog", "out").stdout


def test_broken_results_are_reported_and_the_rest_is_searched() -> None:
    Path("out/bad.json").write_text("{")
    result = run("dog", "out", "gone.json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    assert "failed: 'out/bad.json': not JSON" in result.stderr
    assert "failed: 'gone.json': no such file" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (" ", "out"),
        ("dog", "nothing"),
        ("dog", "out", "--fps", "2"),
        ("dog", "out", "--offline"),
        ("dog", "out", "--timeout", "5"),
        ("dog", "out", "--no-isolation"),
    ],
)
def test_wrong_usage_is_refused(arguments: Sequence[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_model_searches_every_video(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Grounder:
        def __init__(self, model: str, *, grounding: GroundingSettings, **rest: object) -> None:
            loaded.append((model, grounding.found_threshold, rest["isolation"]))

        def query_many(
            self, paths: list[Path], text: str, *, on_error: Callable[[str, VideoError], None]
        ) -> Iterator[list[GroundingResult]]:
            for path in paths:
                if path.name == "broken.mp4":
                    on_error("broken.mp4", VideoError("'broken.mp4': no video"))
                    continue
                score = {"a b.mp4": 0.6, "z.mp4": 0.8}[path.name]
                moments = Moment(1, 2, score), Moment(5, 6, 0.55)
                yield [answer(text, *moments, video=replace(VIDEO, path=str(path)))]

    monkeypatch.setattr("vidground.grounder.Grounder", Grounder)
    for name in ("broken.mp4", "z.mp4"):
        Path(name).write_bytes(b"x")
    result = run("a dog", ".", "--model", "toy", "--min-score", "0.4", "--limit", "3")
    assert loaded == [("toy", 0.4, IsolationSettings())]
    assert result.exit_code == 1
    assert "failed: 'broken.mp4': no video" in result.stderr
    assert result.stdout.splitlines() == [
        "z.mp4  00:00:01.0 - 00:00:02.0  0.80  a dog",
        "a b.mp4  00:00:01.0 - 00:00:02.0  0.60  a dog",
        "a b.mp4  00:00:05.0 - 00:00:06.0  0.55  a dog",
    ]
    run("a dog", ".", "--model", "toy", "--no-isolation")
    assert loaded[1] == ("toy", 0.5, None)


def test_words_lose_case_accents_and_plurals() -> None:
    assert words("Two DOGS, Élan; glass's straße_x") == [
        *("two", "dog", "elan", "glass", "s", "strasse", "x")
    ]
    assert words("东京 タワー 한국") == [*"东京", *"タワー", *"한국"]


def test_bm25_by_hand() -> None:
    # dog is in 1 of 2 texts: log(1 + 1.5 / 1.5). Mean length 2, so K = 1.2 (0.25 + 0.375 n).
    rarity = math.log(2)
    own = rarity * 2.2 / (1 + 1.2 * (0.25 + 0.375 * 1))
    found = rarity * 2.2 / (1 + 1.2 * (0.25 + 0.375 * 3))
    assert rank("dog", ["a dog eats", "rain"]) == pytest.approx([found / own, 0.0])


def test_rarer_words_more_words_and_shorter_texts_are_better() -> None:
    texts = ["a red car", "a red bike", "a red van", "a blue car passes a red house", "rain"]
    car, bike, *_ = rank("red bike", texts)
    assert bike > car > 0
    found = rank("car", texts)
    assert found[0] > found[3] > found[1] == 0
    assert rank("RED cars", ["a red car", "red car"])[1] == 1


def test_without_words_the_score_is_zero() -> None:
    assert rank("...", ["a dog"]) == [0.0]
    assert rank("dog", []) == []
    assert rank("dog", ["", "?"]) == [0.0, 0.0]


@given(st.text("abc dé", max_size=20), st.lists(st.text("abc dé", max_size=20), max_size=6))
def test_scores_lie_between_0_and_1_and_the_query_itself_is_best(
    query: str, texts: list[str]
) -> None:
    scores = rank(query, [*texts, query])
    assert all(0 <= score <= 1 for score in scores)
    if words(query) and len(set(words(query))) == len(words(query)):
        assert scores[-1] == pytest.approx(1)
    shared = [bool(set(words(text)) & set(words(query))) for text in texts]
    assert [score > 0 for score in scores[:-1]] == shared
