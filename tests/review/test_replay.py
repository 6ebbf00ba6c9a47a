"""Results made again: the same where nothing changed, and told apart where something did."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.helpers.nearly import assert_nearly_equal
from tests.helpers.tokenizer_files import released_checkpoint
from tests.helpers.video_files import make_video
from vidground import DecodingSettings, DenseCaptioner, Grounder, SamplingSettings
from vidground.checkpoints.fingerprint import folder_fingerprint
from vidground.checkpoints.loading import load_model
from vidground.cli.main import cli
from vidground.errors import InputError, VideoError
from vidground.model.d2vlm import D2VLM
from vidground.results.formats import load, save
from vidground.results.types import Captions, Groundings
from vidground.review.replay import Replay, _answer_notes, _compare, _Row, replay

pytestmark = pytest.mark.numbers

SAMPLING = SamplingSettings(fps=2, window_s=2.5, overlap=0.4, stream=0, raw_fps=20.0)
DECODING = DecodingSettings(max_new_tokens=20, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    released_checkpoint(folder / "model")
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text())
    # The stand-in tokenizer spells prompts letter by letter: give them room.
    config |= {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    path.write_text(json.dumps(config))
    make_video(folder / "film.mp4", frames=40, fps=10)
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> D2VLM:
    return load_model(place / "model", device="cpu")


@pytest.fixture
def stored(place: Path, model: D2VLM) -> dict[str, Path]:
    """Captions and answers, made with settings that are not the defaults."""
    options = {"sampling": SAMPLING, "decoding": DECODING}
    captions = DenseCaptioner(model, **options).caption(place / "film.mp4", question="what ?")
    grounder = Grounder(model, **options)
    answers = [
        *grounder.query(place / "film.mp4", ["a dog", "a cat"]),
        grounder.ask(place / "film.mp4", "what is in <evi> ?", about=[(0, 1)]),
    ]
    save(captions, place / "captions.json")
    save(Groundings(tuple(answers)), place / "answers.json")
    return {"captions": place / "captions.json", "answers": place / "answers.json"}


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, model: D2VLM) -> list[dict[str, object]]:
    """Results name a model's folder; the model from there is loaded but once for all tests."""
    asked: list[dict[str, object]] = []

    def stand_in(name: str | D2VLM, **options: object) -> D2VLM:
        asked.append({"model": name, **options})
        return model

    monkeypatch.setattr("vidground.inference.model_setup.load_model", stand_in)
    return asked


@pytest.mark.parametrize("kind", ["captions", "answers"])
def test_a_replayed_result_is_the_same(
    stored: dict[str, Path], kind: str, place: Path, loaded_once: list[dict[str, object]]
) -> None:
    again = replay(stored[kind], local_files_only=True)
    assert (again.same, again.notes) == (True, ())
    assert_nearly_equal(again.result, load(stored[kind]))
    (asked,) = [entry for entry in loaded_once if isinstance(entry["model"], str)]
    assert asked["model"] == str(place / "model")
    assert (asked["dtype"], str(asked["device"])) == ("float32", "cpu")
    assert asked["local_files_only"] is True


def edited(path: Path, *keys: str | int, value: object) -> Path:
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    target = path.with_name("edited.json")
    target.write_text(json.dumps(document))
    return target


def test_settings_that_differ_give_other_results(stored: dict[str, Path]) -> None:
    other = edited(stored["answers"], "provenance", "fps", value=1.0)
    again = replay(other)
    assert "the relevance curve has other times" in again.notes
    assert "number of windows was 2, is 3" in again.notes


@pytest.mark.parametrize(
    ("dtype", "runtime", "moved", "noted"),
    [
        ("float32", {}, 5e-5, False),
        ("float32", {}, 2e-4, True),
        ("bfloat16", {}, 8e-3, False),
        ("bfloat16", {}, 2e-2, True),
        ("float32", {"time_tokens": "matching"}, 5e-4, False),
        ("float32", {"time_tokens": "matching"}, 2e-3, True),
    ],
)
def test_relevance_is_compared_up_to_rounding(
    stored: dict[str, Path], dtype: str, runtime: dict[str, str], moved: float, noted: bool
) -> None:
    old = load(stored["answers"])
    assert isinstance(old, Groundings)
    first, *others = old.results
    middle = len(first.relevance) // 2
    values = list(first.relevance.values)
    values[middle] += moved
    made = replace(
        first,
        relevance=replace(first.relevance, values=tuple(values)),
        provenance=replace(first.provenance, dtype=dtype, runtime=runtime),
    )
    notes = _answer_notes(old, Groundings((made, *others)))
    assert (len(notes) == 1) == noted
    assert all(note.startswith(f"relevance differs by up to {moved:.2g}; ") for note in notes)


@pytest.mark.parametrize("kind", ["captions", "answers"])
def test_a_different_answer_is_reported(stored: dict[str, Path], kind: str) -> None:
    keys = ("answers", 0) if kind == "captions" else ("results", 1, "answer")
    again = replay(edited(stored[kind], *keys, value="something else"))
    assert again.notes == ("the model's answers differ",)


def test_differing_moments_are_reported(stored: dict[str, Path]) -> None:
    moment = {"start_s": 0.25, "end_s": 0.75, "score": 0.9}
    other = edited(stored["answers"], "results", 1, "moments", value=[moment])
    again = replay(other)
    assert not again.same
    assert again.differences[0] == "- 0.250 - 0.750 s  a cat  (0.900)"
    assert all(line.startswith(("+", "-")) for line in again.differences)


def test_differences_by_hand() -> None:
    before = [_Row(0, 1, "a", 0.5), _Row(1, 2, "b", 0.5), _Row(2, 3, "c", None)]
    after = [_Row(0, 1, "a", 0.505), _Row(1, 2, "b", 0.6), _Row(2, 3.5, "c", None)]
    assert _compare(before, before, 0.01) == []
    assert _compare(before, after, 0.01) == [
        "~ 1.000 - 2.000 s  b  (0.600), was 0.5",
        "- 2.000 - 3.000 s  c",
        "+ 2.000 - 3.500 s  c",
    ]
    assert not any(line.startswith("~") for line in _compare(before, after, 0.11))


def test_a_moved_video_is_named_and_another_video_is_noticed(
    stored: dict[str, Path], place: Path
) -> None:
    other = edited(stored["captions"], "video", "path", value="gone.mp4")
    with pytest.raises(VideoError, match=r"'gone\.mp4': no such video; .*--video"):
        replay(other)
    assert replay(other, video=place / "film.mp4").same
    make_video(place / "other.mp4", frames=45, fps=10)
    again = replay(other, video=place / "other.mp4")
    assert any("other.mp4' is another video: SHA-256 " in note for note in again.notes)


def test_results_of_older_versions_can_be_replayed(stored: dict[str, Path]) -> None:
    document = json.loads(stored["captions"].read_text())
    for key in ("settings", "runtime"):
        del document["provenance"][key]
    del document["provenance"]["decoding"]["loop_tokens"]
    path = stored["captions"].with_name("older.json")
    path.write_text(json.dumps(document))
    again = replay(path)
    assert again.notes[0] == "the result does not record its device and library versions"
    made = again.result
    assert isinstance(made, Captions)
    assert made.provenance.decoding["loop_tokens"] == 0
    newer = edited(stored["captions"], "provenance", "decoding", "beams", value=4)
    with pytest.raises(InputError, match=r"generated with beams.*use vidground 0\.1\.0"):
        replay(newer)


def test_other_versions_are_reported(stored: dict[str, Path]) -> None:
    other = edited(stored["captions"], "provenance", "runtime", "torch", value="1.0")
    again = replay(other)
    assert again.same
    assert again.notes[0].startswith("torch was 1.0, is ")


def test_changed_model_files_are_reported(stored: dict[str, Path], place: Path) -> None:
    made_of = load(stored["captions"])
    assert isinstance(made_of, Captions)
    digest = made_of.provenance.runtime["weights"]
    assert digest == folder_fingerprint(place / "model")
    other = edited(stored["captions"], "provenance", "runtime", "weights", value="0" * 64)
    assert replay(other).notes[0] == f"weights was {'0' * 64}, is {digest}"


def test_the_command_says_same_or_what_differs(
    stored: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = load(stored["captions"])
    outcome = Replay(result, (), ("torch was 1,\n is 2",))
    monkeypatch.setattr("vidground.review.replay.replay", lambda *_, **__: outcome)
    run = CliRunner().invoke(cli, ["replay", str(stored["captions"])])
    assert run.exit_code == 0
    loading, note = run.stderr.splitlines()
    assert loading.startswith(f"Loading {result.provenance.model} (0.708 M parameters, float32, ")
    assert note == "note: torch was 1,\\n is 2"
    assert run.stdout == f"same: {len(result.events)} found again\n"
    outcome = replace(outcome, differences=("- a", "+ \x1b[31mb"))
    run = CliRunner().invoke(cli, ["replay", str(stored["captions"])])
    assert (run.exit_code, run.stdout) == (1, "- a\n+ \\x1b[31mb\n")
