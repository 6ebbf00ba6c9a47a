"""What a model is asked and how its answers are kept, with a model whose answers are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripted_model import Said, ScriptedModel
from tests.helpers.training_runs import tiny_model
from tests.helpers.video_files import make_video
from vidground import DecodingSettings, Grounder, GroundingSettings, SamplingSettings
from vidground.training.evaluation.answer_reading import read_captions
from vidground.training.evaluation.prediction_store import open_folder, read_folder
from vidground.training.evaluation.predictor import Predictor, predict
from vidground.training.evaluation.questions import ABSENT, Question

GROUNDED = "<evi></evi>The event happens in <evi>."


def question(text: str, task: str = "tvg", idx: int = 0, **changed: Any) -> Question:
    fields = {"task": task, "source": "toy", "idx": idx, "video": "a.mp4", "q": text}
    values = {"task": task, "source": "toy", "idx": idx, "video": "a.mp4", "text": text}
    return Question(fields=fields, **(values | changed))


def in_two_places(text: str, _: int) -> Said:
    return GROUNDED, [(2, 5)] * 2 if "circle" in text else [(7, 7)] * 2, 0.75


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=60, fps=5)  # twelve seconds
    return folder


def answers(predictor: Predictor, path: Path, asked: Sequence[Question]) -> list[Any]:
    return [line for _, line in predictor.answer(path, asked)]


def test_answers_have_the_benchmarks_form(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(ScriptedModel(monkeypatch, in_two_places).model)
    circle, other = answers(
        predictor, videos / "a.mp4", [question("a circle"), question("what is left", idx=1)]
    )
    assert circle == {
        "a": "2 - 5 </evi>The event happens in 2 - 5 .",
        "found": True,
        "moments": [[2.0, 5.0, 0.75]],
    }
    # A single frame lasts until the next one.
    assert other["a"] == "7 - 8 </evi>The event happens in 7 - 8 ."


def test_moments_are_those_of_the_grounder(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def low(_: str, __: int) -> Said:
        return GROUNDED, [(2, 5), (2, 5)], 0.3

    scripted = ScriptedModel(monkeypatch, low)
    grounder = Grounder(scripted.model, grounding=GroundingSettings(found_threshold=0))
    expected = grounder.ask(videos / "a.mp4", "a circle").moments
    line = answers(Predictor(scripted.model), videos / "a.mp4", [question("a circle")])[0]
    assert line["moments"] == [[m.start_s, m.end_s, m.score] for m in expected]
    assert len(expected) == 1
    assert not line["found"]  # kept, though its score is below the threshold


def test_questions_on_one_video_share_its_encoding_and_a_batch(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = ScriptedModel(monkeypatch, in_two_places)
    encoded = []
    encode = type(scripted.model.vision).forward

    def counted(*arguments: Any) -> Any:
        encoded.append(len(arguments[1]))
        return encode(*arguments)

    monkeypatch.setattr(type(scripted.model.vision), "forward", counted)
    asked = [
        question("a circle"),
        question("pick one", "rar", 1),
        question("what is left", idx=2),
        question("what happens in <evi>?", "rvq", 3, spans_s=((2.0, 4.0),)),
    ]
    found = list(Predictor(scripted.model).answer(videos / "a.mp4", asked))
    assert sum(encoded) == 12
    assert scripted.batches == [2, 1, 1]
    assert {q.idx for q, _ in found} == {0, 1, 2, 3}
    by_text = dict(zip(scripted.asked, scripted.settings, strict=True))
    assert {text: s.repetition_penalty for text, s in by_text.items()} == {
        "a circle": 1.0,
        "what is left": 1.0,
        "pick one": 1.2,
        "what happens in <evi>?": 1.2,
    }
    assert scripted.spans[-1] == [(2.0, 4.0)]
    assert scripted.spans[:-1] == [[]] * 3


def test_an_answer_depends_on_its_own_question_only(videos: Path) -> None:
    predictor = Predictor(tiny_model(), decoding=DecodingSettings(max_new_tokens=12))
    asked = [question("a red circle grows"), question("what?", idx=1), question("an", "rvq", 2)]
    together = answers(predictor, videos / "a.mp4", asked)
    alone = [answers(predictor, videos / "a.mp4", [one])[0] for one in asked]
    assert together == alone
    assert together[0]["a"] != together[1]["a"]


def test_windows_make_one_answer(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = ["a red circle grows", "a blue square blinks"]

    def by_window(text: str, number: int) -> Said:
        score = (0.6, 0.9)[number]
        if "describe" in text:
            return f"<evi></evi><evi>, {captions[number]}.", [(1, 2), (1, 2)], score
        return GROUNDED, [(1, 2), (1, 2)], score

    scripted = ScriptedModel(monkeypatch, by_window)
    predictor = Predictor(scripted.model, sampling=SamplingSettings(window_s=6, overlap=0))
    asked = [question("describe", "dvc"), question("find all", "tal", 1), question("find", idx=2)]
    dense, listed, single = answers(predictor, videos / "a.mp4", asked)
    assert dense["a"].startswith("1 - 2 7 - 8 </evi> ")
    assert read_captions(dense["a"].partition("</evi>")[2]) == (
        ((1.0, 2.0), "a red circle grows."),
        ((7.0, 8.0), "a blue square blinks."),
    )
    assert listed["a"] == "1 - 2 7 - 8 </evi> 1 - 2 , 7 - 8"
    assert single["a"] == "7 - 8 </evi>The event happens in 7 - 8 ."


def test_a_failed_video_is_reported_and_retried(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = ScriptedModel(monkeypatch, in_two_places)
    predictor = Predictor(scripted.model)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(videos / "a.mp4")
    asked = [
        question("first", video="gone.mp4"),
        question("pick", "rar", 1, video="gone.mp4"),
        question("a circle", idx=2),
        question("a circle", ABSENT, 0),
    ]
    told: list[tuple[str, str]] = []
    progress: list[tuple[int, int]] = []

    def run() -> int:
        with open_folder(tmp_path / "out", predictor.settings, asked) as folder:
            return predict(
                predictor,
                asked,
                tmp_path / "videos",
                folder,
                on_progress=lambda done, total: progress.append((done, total)),
                on_failure=lambda *failure: told.append(failure),
            )

    assert run() == 2
    assert [video for video, _ in told] == ["gone.mp4"]
    assert "no such file" in told[0][1]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    stored = read_folder(tmp_path / "out")
    assert [(line["a"] == "", "error" in line) for line in stored.predictions] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert len(stored.absent_predictions) == 1

    (tmp_path / "videos" / "gone.mp4").symlink_to(videos / "b.mp4")
    scripted.asked.clear()
    assert run() == 0
    assert sorted(scripted.asked) == ["first", "pick"]
    assert all("error" not in line for line in read_folder(tmp_path / "out").predictions)
    scripted.asked.clear()
    assert run() == 0
    assert scripted.asked == []


def test_an_unsuitable_question_fails_alone(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(ScriptedModel(monkeypatch, in_two_places).model)
    far = {"spans_s": ((100.0, 110.0),)}
    asked = [
        question("what happens in <evi>?", "rvq", 0, **far),
        question(" ", idx=1),
        question("a circle", idx=2),
    ]
    found = {q.idx: line for q, line in predictor.answer(videos / "a.mp4", asked)}
    assert "is not in the video" in found[0]["error"]
    assert "blank" in found[1]["error"]
    assert "error" not in found[2]


def test_mistakes_of_the_program_are_reported_as_internal_errors(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str, _: int) -> Said:
        raise KeyError(text)

    predictor = Predictor(ScriptedModel(monkeypatch, broken).model)
    line = answers(predictor, videos / "a.mp4", [question("a circle")])[0]
    assert line["a"] == ""
    assert line["error"].startswith("internal error: KeyError: ")

    def full(_: str, __: int) -> Said:
        raise MemoryError

    predictor = Predictor(ScriptedModel(monkeypatch, full).model)
    line = answers(predictor, videos / "a.mp4", [question("a circle")])[0]
    assert line["error"].startswith("out of memory")


def test_settings_hold_everything_that_changes_a_prediction() -> None:
    settings = Predictor(tiny_model()).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings == Predictor(tiny_model()).settings
    assert settings["weights"] != Predictor(tiny_model(seed=1)).settings["weights"]
    trained = tiny_model()
    trained.evidence_head[-1].bias.data += 1e-3
    assert settings["weights"] != Predictor(trained).settings["weights"]
    warm = Predictor(tiny_model(), decoding=DecodingSettings(temperature=0.2)).settings
    assert warm["decoding"]["temperature"] == 0.2


def test_a_model_that_matches_frames_answers_in_its_own_form(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(asked: str, _: int) -> Said:
        told.append(asked)
        return ("A) first", [], 0.9) if "option" in asked else (said, [(2, 2), (5, 5)], 0.9)

    told: list[str] = []
    said = "<vid> - <vid>."
    scripted = ScriptedModel(monkeypatch, script, time_tokens="matching")
    choice = question("which option is <evi>?", task="rvq", spans_s=((1.0, 4.0),))
    found = answers(Predictor(scripted.model), videos / "a.mp4", [question("a circle"), choice])
    assert told == ["a circle", "which option is <vid> - <vid>?"]
    assert [prompt.endswith("Best Option: (") for prompt in scripted.prompts] == [False, True]
    assert [line["a"] for line in found] == ["2 - 5 .", "A) first"]
    assert [line["staged"] for line in found] == [False, False]
    assert found[0]["moments"] == [[2.0, 5.0, pytest.approx(0.9)]]
