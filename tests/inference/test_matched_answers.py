"""Answers of a model that matches frames: what it said, as moments, captions and text."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.scripted_model import Said, ScriptedModel
from tests.helpers.video_files import make_video
from vidground import DenseCaptioner, Grounder
from vidground.settings import SamplingSettings


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    make_video(path, frames=60, fps=5)  # twelve seconds
    return path


def scripted(
    monkeypatch: pytest.MonkeyPatch, text: str, frames: Sequence[int], score: float = 0.75
) -> ScriptedModel:
    def script(_: str, __: int) -> Said:
        return text, [(frame, frame) for frame in frames], score

    return ScriptedModel(monkeypatch, script, time_tokens="matching")


def test_two_matched_frames_are_one_moment(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted(monkeypatch, "The event happens in <vid> - <vid>.", [2, 5]).model
    result = Grounder(model).query(video, "a circle")
    assert [(m.start_s, m.end_s, m.score) for m in result.moments] == [(2.0, 5.0, 0.75)]
    assert result.answer == "The event happens in 2 - 5 s."
    assert [time for time, value in result.relevance if value] == [2.0, 5.0]
    assert result.warnings == ()
    assert result.provenance.runtime["time_tokens"] == "matching"


def test_reversed_frames_and_single_ones(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted(monkeypatch, "in <vid> - <vid>, and <vid>.", [9, 7, 3]).model
    result = Grounder(model).query(video, "a circle")
    assert sorted((m.start_s, m.end_s) for m in result.moments) == [(3.0, 4.0), (7.0, 9.0)]
    assert result.answer == "in 9 - 7 s, and 3 s."


def test_a_score_below_the_threshold_is_not_found(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(monkeypatch, "in <vid> - <vid>.", [2, 5], 0.4).model
    assert not Grounder(model).query(video, "a circle").found


def test_captions_have_the_times_of_their_frames(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "<vid> - <vid>, stir. <vid> - <vid>, serve it."
    captions = DenseCaptioner(scripted(monkeypatch, text, [0, 4, 6, 11]).model).caption(video)
    found = [(event.start_s, event.end_s, event.text, event.score) for event in captions]
    assert found == [(0.0, 4.0, "stir", 0.75), (6.0, 11.0, "serve it", 0.75)]


def test_a_question_about_an_interval_gives_two_instants(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(monkeypatch, "a red circle.", [])
    result = Grounder(model.model).ask(video, "what is in <evi>?", about=[(2.4, 9)])
    assert model.asked == ["what is in <vid> - <vid>?"]
    assert model.spans == [[(2.4, 2.4), (9.0, 9.0)]]
    assert result.provenance.about_s == ((2.4, 9.0),)
    assert (result.found, result.answer) == (False, "a red circle.")


def test_times_are_those_of_the_frames_of_a_window(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of several windows names frames of its own."""
    model = scripted(monkeypatch, "in <vid> - <vid>.", [1, 3]).model
    sampling = SamplingSettings(window_s=6, overlap=0)
    result = Grounder(model, sampling=sampling).query(video, "a circle")
    assert sorted((m.start_s, m.end_s) for m in result.moments) == [(1.0, 3.0), (7.0, 9.0)]
