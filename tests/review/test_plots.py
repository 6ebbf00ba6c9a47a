"""Plots of relevance curves: kinds of files, what is drawn, what is refused."""

import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vidground.cli.query
from tests.helpers.result_makers import ASKED, VIDEO, answer
from tests.helpers.video_files import make_video
from tests.helpers.workers import worker_of
from vidground.archive.outputs import Job
from vidground.archive.workers import Worker
from vidground.cli.main import cli
from vidground.errors import InputError
from vidground.results.types import Groundings, Moment
from vidground.review.plots import MOST_QUERIES, plot_relevance

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "start"), [("c.png", b"\x89PNG"), ("new/c.SVG", b"<?xml"), ("c.pdf", b"%PDF")]
)
def test_each_suffix_has_its_format_and_equal_results_equal_files(name: str, start: bytes) -> None:
    plot_relevance(ASKED, name)
    first = Path(name).read_bytes()
    assert first.startswith(start)
    plot_relevance(ASKED, name)
    assert Path(name).read_bytes() == first
    plot_relevance(ASKED.results[0], name)
    assert Path(name).read_bytes() != first


def test_queries_are_drawn_as_plain_text() -> None:
    hostile = r"a $\frac{1}$ <b> _x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_relevance(Groundings((answer(hostile), answer("b", Moment(0, 1, 0.66)))), "c.svg")
    texts = re.findall(r"<text[^>]*>(.*?)</text>", Path("c.svg").read_text())
    assert r"a $\frac{1}$ &lt;b&gt; _x   (not found)" in texts
    assert {"b", "0.66", "seconds", "relevance"} <= set(texts)


def test_impossible_plots_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"c\.gif: the suffix of a plot must be one of \.png, \.svg, \.pdf"
    ):
        plot_relevance(ASKED, "c.gif")
    many = Groundings((answer("a"),) * (MOST_QUERIES + 1))
    with pytest.raises(InputError, match="101 curves in one plot; the limit is 100"):
        plot_relevance(many, "c.png")


def test_a_missing_matplotlib_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'vidground\[plot\]'"):
        plot_relevance(ASKED, "c.png")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the model; the videos that it was asked about."""
    videos: list[str] = []

    def load(_options: object, texts: tuple[str, ...], _grounding: object) -> Worker:
        def work(job: Job, _on_progress: object) -> Groundings:
            videos.append(str(job.path))
            video = replace(VIDEO, path=str(job.path), sha256=None)
            return Groundings(tuple(answer(text, Moment(0, 1, 0.6), video=video) for text in texts))

        return worker_of(work)

    monkeypatch.setattr(vidground.cli.query, "_load", load)
    for name in ("a.mp4", "b.mp4"):
        make_video(Path(name), frames=2)
    return videos


def query(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["query", *arguments, "-t", "a goal", "--model", "toy"])


@pytest.mark.parametrize("record", ["--manifest", "--no-manifest"])
def test_a_query_draws_a_new_result_and_a_stored_one(asked: list[str], record: str) -> None:
    result = query("a.mp4", "--plot", "one.png", record)
    assert result.exit_code == 0, result.stderr
    assert "done: one.png" in result.stderr
    again = query("a.mp4", "--plot", "two.png", record)
    assert again.exit_code == 0, again.stderr
    assert asked == ["a.mp4"]  # the second time the stored result was drawn
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_a_stored_result_for_other_texts_is_not_drawn(asked: list[str]) -> None:
    assert query("a.mp4", "--no-manifest").exit_code == 0
    other = query("a.mp4", "--no-manifest", "-t", "a card", "--plot", "c.png")
    assert other.exit_code == 1
    assert "no curves are stored for these texts" in other.stderr
    assert not Path("c.png").exists()
    assert asked == ["a.mp4"]


def test_a_plot_can_be_combined_with_standard_output(asked: list[str]) -> None:
    result = query("a.mp4", "-o", "-", "--plot", "c.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("{")
    assert Path("c.png").exists()
    assert asked == ["a.mp4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.mp4", "b.mp4", "--plot", "c.png"),
        ("a.mp4", "--plot", "c.gif"),
        ("a.mp4", "--plot", "c.png", "--dry-run"),
        ("--from-file", "list.txt", "--plot", "c.png"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    asked: list[str], arguments: tuple[str, ...]
) -> None:
    Path("list.txt").write_text("a.mp4")
    result = query(*arguments)
    assert result.exit_code == 2, result.stderr
    assert asked == []
    assert not Path("c.png").exists()
