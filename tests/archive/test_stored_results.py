"""Results that were written as subtitles only, found by the names that people have for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers.paths import EXAMPLES
from vidground.archive.stored_results import find_stored, load, require_stored
from vidground.cli.main import cli
from vidground.errors import FormatError

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captioned films in folders, one of them also queried; one film without results."""
    folder = tmp_path_factory.mktemp("stored")
    for name in ("in/a.mp4", "in/deep/b.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((EXAMPLES / "film_2.mp4").read_bytes())
    shared = [str(folder / "in"), "--recursive", "--model", "toy", "--quiet", "--no-cache"]
    for arguments in (["caption"], ["query", "-t", "a green triangle grows"]):
        done = CliRunner().invoke(cli, [*arguments, *shared], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    (folder / "in/deep/b.query.json").unlink()
    (folder / "in/new.mp4").write_bytes((EXAMPLES / "film_1.mp4").read_bytes())
    return folder


@pytest.fixture
def folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def found(*names: str, recursive: bool = False) -> list[tuple[str, str]]:
    files = find_stored(names, recursive=recursive).files
    return [(file.path.as_posix(), file.relative.as_posix()) for file in files]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("in", ["in/a.query.json", "in/a.json"]),
        ("in/deep", ["in/deep/b.json", "in/deep/b.query.json"]),
        ("in/a.mp4", ["in/a.json", "in/a.query.json"]),
        ("in/a.srt", ["in/a.json"]),
        ("in/a.query.json", ["in/a.query.json"]),
        ("in/a.*", ["in/a.json", "in/a.query.json"]),
    ],
)
def test_results_are_found_by_any_name(name: str, results: list[str]) -> None:
    assert [path for path, _ in found(name)] == results
    assert found(name, name) == found(name)
    for path in results:
        assert len(load(path).events) in (1, 2)


@pytest.mark.usefixtures("folder")
def test_subfolders_are_searched_when_asked() -> None:
    assert len(found("in")) == 2
    assert ("in/deep/b.json", "deep/b.json") in found("in", recursive=True)


@pytest.mark.usefixtures("folder")
def test_a_mirrored_tree_of_results_is_found_by_its_top(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    arguments = ["--recursive", "--model", "toy", "--quiet", "-o", out]
    assert run("caption", "in", *arguments).exit_code == 0
    names = sorted(file.relative.as_posix() for file in find_stored([out], recursive=True).files)
    assert names == ["a.json", "deep/b.json", "new.json"]
    assert require_stored(f"{out}/deep/b.srt") == Path(out, "deep/b.json")
    assert len(load(f"{out}/deep/b.json").events) == 2


@pytest.mark.usefixtures("folder")
def test_what_has_no_result_is_reported_with_a_remedy() -> None:
    missing = dict(find_stored(["in/new.mp4", "in/gone.mp4", "README"]).missing)
    assert "run `vidground caption` on it" in str(missing["in/new.mp4"])
    assert "no such file" in str(missing["in/gone.mp4"])
    with pytest.raises(FormatError, match=r"has several results: .*a.json.*a.query.json"):
        require_stored("in/a.mp4")
    with pytest.raises(FormatError, match="no result on this video is stored beside it"):
        require_stored("in/new.mp4")
    Path("notes.txt").write_text("x")
    with pytest.raises(FormatError, match="not a result, and none is stored beside it"):
        require_stored("notes.txt")


@pytest.mark.usefixtures("folder")
def test_commands_read_recorded_results(tmp_path: Path) -> None:
    json = run("convert", "in/a.mp4", "--to", "json", "-o", str(tmp_path))
    assert json.exit_code == 0, json.stderr
    edited = run("convert", "in/a.srt", "--to", "json", "-o", str(tmp_path))
    assert "'in/a.srt' is a subtitle file; name the result that it corrects" in edited.stderr
    assert len(load(tmp_path / "a.json").events) == 2
    report = run("report", "in", "--recursive", "-o", str(tmp_path / "all.html"), "--no-thumbnails")
    assert "done: " in report.stderr
    assert "videos: 2, events: 6, " in report.stderr
    assert "2 found among 6 moments" in run("search", "cyan circle", "in", "--recursive").stderr
    assert run("replay", "in/a.srt").stdout == "same: 2 found again\n"
    clip = run("clip", "in/deep/b.srt", "-o", str(tmp_path / "clips"), "--dry-run")
    assert (clip.exit_code, clip.stdout + clip.stderr != "") == (0, True)
    nothing = run("report", "in/new.mp4", "-o", str(tmp_path / "none.html"))
    assert nothing.exit_code == 2
    assert "Nothing to report. 'in/new.mp4': no result on this video" in nothing.stderr
