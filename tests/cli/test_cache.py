"""The cache on the command line: used by default, told of, cleared, and left alone when asked."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.paths import EXAMPLES
from vidground.cli.main import cli
from vidground.model.d2vlm import D2VLM
from vidground.video.reader import VideoReader

pytestmark = pytest.mark.numbers

EXAMPLE = EXAMPLES / "film_2.mp4"
QUICK = ("--no-isolation", "--max-new-tokens", "8", "--quiet")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    shutil.copy(EXAMPLE, "film.mp4")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def query(*options: str, text: str = "a red circle") -> Result:
    arguments = ("film.mp4", "--model", "toy", "--text", text, "--overwrite", *QUICK)
    return run("query", *arguments, *options)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(VideoReader, "__init__", fail)


def test_a_second_question_decodes_nothing(
    own_cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = query()
    assert first.exit_code == 0, first.output
    content = (folder / "film.query.json").read_bytes()
    assert len(list(own_cache.glob("*.safetensors"))) == 1
    forbid_decoding(monkeypatch)
    assert query(text="a green triangle grows").exit_code == 0
    assert query().exit_code == 0
    assert (folder / "film.query.json").read_bytes() == content
    caption = run("caption", "film.mp4", "--model", "toy", *QUICK)
    assert caption.exit_code == 0, caption.output
    monkeypatch.setattr(D2VLM, "compress_each", None)
    again = run("caption", "film.mp4", "--model", "toy", "--overwrite", *QUICK)
    assert again.exit_code == 0, again.output


def test_a_search_leaves_features_for_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = ("--model", "toy", "--quiet", "--no-isolation")
    searched = run("search", "a red circle", ".", *quiet)
    assert searched.exit_code == 0, searched.output
    forbid_decoding(monkeypatch)
    assert query().exit_code == 0
    again = run("search", "a red circle", ".", *quiet)
    assert (again.exit_code, again.stdout) == (0, searched.stdout)
    without = run("search", "a", ".", "--no-cache", *quiet)
    assert without.exit_code == 1
    assert "decoded again" in without.stderr


def test_without_a_cache_nothing_is_read_or_kept(own_cache: Path, folder: Path) -> None:
    for command in (("caption",), ("query", "--text", "a red circle")):
        name, *options = command
        result = run(name, "film.mp4", "--model", "toy", "--no-cache", *options, *QUICK)
        assert result.exit_code == 0, result.output
    runtime = json.loads((folder / "film.query.json").read_text())
    assert "features" not in json.dumps(runtime)
    assert not own_cache.exists()


def test_what_was_made_with_a_cache_is_replayed_without(own_cache: Path) -> None:
    assert query("--cache-bits", "8").exit_code == 0
    shutil.rmtree(own_cache)
    result = run("replay", "film.query.json")
    # Scores may differ in the last digits, as another grouping may compute them: not noted.
    assert result.exit_code == 0, result.output
    assert "note:" not in result.stderr
    assert not own_cache.exists()


def test_eight_bits_are_another_result_and_sixteen_are_not() -> None:
    arguments = ("film.mp4", "--model", "toy", "--text", "a", *QUICK)
    assert run("query", *arguments, "--no-cache").exit_code == 0

    def plan(*options: str) -> str:
        return run("query", *arguments, "--dry-run", *options).stdout

    assert "skip" in plan()
    assert "cache_bits was not set, is 8" in plan("--cache-bits", "8")


def test_info_tells_what_is_kept_and_clear_removes_it(own_cache: Path) -> None:
    empty = run("cache", "info")
    assert empty.exit_code == 0
    assert f"place    {own_cache}" in empty.stdout
    assert "in use   0 B" in empty.stdout
    assert not own_cache.exists()
    query()
    run("caption", "film.mp4", "--model", "toy", *QUICK)
    told = run("cache", "info", "--cache-size", "2.5").stdout
    assert "limit    2.5 GiB" in told
    assert "entries  1 (features, " in told
    assert "entries  1 (tokens, " in told
    assert told.count(" of toy") == 2
    cleared = run("cache", "clear")
    assert "2 removed, " in cleared.stdout
    assert list(own_cache.glob("*.safetensors")) == []
    assert "in use   0 B" in run("cache", "info").stdout


def test_another_place_and_size(folder: Path, own_cache: Path) -> None:
    assert query("--cache-dir", "kept").exit_code == 0
    assert len(list((folder / "kept").glob("*.safetensors"))) == 1
    assert not own_cache.exists()
    assert query("--cache-dir", "small", "--cache-size", "0.0001").exit_code == 0
    assert list((folder / "small").glob("*.safetensors")) == []


def test_other_files_are_safe(folder: Path) -> None:
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_text("weights")
    cleared = run("cache", "clear", "--cache-dir", "weights")
    assert cleared.exit_code == 1
    assert "holds other files" in cleared.stderr
    refused = query("--cache-dir", "weights")
    assert refused.exit_code == 2
    assert "holds other files" in refused.stderr
    assert [path.name for path in weights.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--no-cache", "--cache-dir", "x"), "no effect with --no-cache"),
        (("--cache-size", "-1"), "cache size is -1"),
    ],
)
def test_options_without_effect_are_refused(options: tuple[str, ...], said: str) -> None:
    result = query(*options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_search_of_words_has_no_cache() -> None:
    result = run("search", "a", ".", "--no-cache")
    assert result.exit_code == 2
    assert "effect only with --model" in result.stderr
