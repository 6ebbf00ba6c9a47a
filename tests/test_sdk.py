"""Grounder and DenseCaptioner on small videos with the random checkpoint: properties that hold
whatever a model answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.nearly import ROUNDING
from tests.helpers.tokenizer_files import GOLDEN_CHECKPOINT, released_checkpoint
from tests.helpers.video_files import make_video
from vidground import (
    D2VLM,
    BatchSettings,
    Captions,
    CheckpointError,
    DecodingSettings,
    DenseCaptioner,
    Grounder,
    GroundingSettings,
    InputError,
    SamplingSettings,
    VideoError,
)
from vidground.progress import Progress
from vidground.results.formats import load

pytestmark = [pytest.mark.smoke, pytest.mark.numbers]


SHORT = DecodingSettings(max_new_tokens=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> D2VLM:
    folder = released_checkpoint(tmp_path_factory.mktemp("model"))
    config = json.loads((folder / "config.json").read_text())
    # The stand-in tokenizer spells prompts letter by letter: give them room.
    config |= {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    return D2VLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "twelve.mp4", frames=120, fps=10)


@pytest.fixture(scope="module")
def grounder(model: D2VLM) -> Grounder:
    return Grounder(model, decoding=SHORT)


def test_a_query_gives_moments_a_curve_and_provenance(grounder: Grounder, video: Path) -> None:
    result = grounder.query(video, "a square lights up")
    assert result.relevance.times_s == pytest.approx(range(12))
    assert all(0 <= value <= 1 for value in result.relevance.values)
    assert result.found == bool(result.moments)
    scores = [moment.score for moment in result.moments]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= m.start_s < m.end_s <= 12 for m in result.moments)
    assert result.time_resolution_s == 1
    assert "'a square lights up'" in result.provenance.prompt
    assert result.provenance.windows_s == ((0.0, 12.0),)
    assert len(result.video.sha256 or "") == 64
    assert any("cap of 20 tokens" in warning for warning in result.warnings)


def test_an_encoded_video_gives_the_same_results(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    for text in ("a", "a man eats"):
        assert grounder.query(encoded, text) == grounder.query(video, text)


def test_several_texts_at_once_give_the_same_results(model: D2VLM, video: Path) -> None:
    texts = ["a", "the longest text of them all", "a cat"]
    one_by_one = Grounder(model, decoding=SHORT, batch=BatchSettings(prompts=1, frames=1))
    at_once = Grounder(model, decoding=SHORT, batch=BatchSettings(prompts=8, frames=5))
    for text, result in zip(texts, at_once.query(video, texts), strict=True):
        alone = one_by_one.query(video, text)
        assert replace(result, relevance=alone.relevance, moments=alone.moments) == alone
        assert [m.start_s for m in result.moments] == [m.start_s for m in alone.moments]
        assert result.relevance.values == pytest.approx(alone.relevance.values, abs=ROUNDING)


def test_the_threshold_decides_what_is_found(model: D2VLM, video: Path) -> None:
    everything = Grounder(model, decoding=SHORT, grounding=GroundingSettings(0.0))
    nothing = Grounder(model, decoding=SHORT, grounding=GroundingSettings(1.0))
    result = nothing.query(video, "a square")
    assert (result.found, result.moments, result.threshold) == (False, (), 1.0)
    assert len(result.relevance) == 12
    found = everything.query(video, "a square").moments
    middle = sorted(moment.score for moment in found)[-1]
    some = Grounder(model, decoding=SHORT, grounding=GroundingSettings(middle, max_moments=1))
    assert some.query(video, "a square").moments == found[:1]


def test_a_long_video_is_split_into_windows(model: D2VLM, video: Path) -> None:
    windowed = Grounder(model, decoding=SHORT, sampling=SamplingSettings(window_s=5, overlap=0.4))
    whole = Grounder(model, decoding=SHORT)
    result = windowed.query(video, "a square")
    spans = result.provenance.windows_s
    assert spans[0][0] == 0
    assert spans[-1][1] == 12
    assert all(end - start == pytest.approx(5) for start, end in spans)
    assert len(result.relevance) == 12
    assert len(whole.query(video, "a square").provenance.windows_s) == 1
    # Batches across windows change nothing.
    single = Grounder(
        model,
        decoding=SHORT,
        sampling=SamplingSettings(window_s=5, overlap=0.4),
        batch=BatchSettings(prompts=1, frames=2),
    )
    again = single.query(video, "a square")
    assert again.relevance.values == pytest.approx(result.relevance.values, abs=ROUNDING)
    assert again.answer == result.answer


def test_a_window_longer_than_in_training_is_refused(model: D2VLM) -> None:
    with pytest.raises(InputError, match=r"400 frames; the model was trained on at most 350"):
        Grounder(model, sampling=SamplingSettings(window_s=400))


def test_faster_sampling_gives_a_finer_resolution(model: D2VLM, video: Path) -> None:
    result = Grounder(model, decoding=SHORT, sampling=SamplingSettings(fps=2)).query(video, "a")
    assert result.relevance.times_s == pytest.approx([k / 2 for k in range(24)])
    assert result.time_resolution_s == 0.5


def test_a_question_about_an_interval(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    first = grounder.ask(encoded, "what is in <evi> ?", about=[(0, 2)])
    other = grounder.ask(encoded, "what is in <evi> ?", about=[(8, 11)])
    assert first.relevance != other.relevance
    assert grounder.ask(encoded, "what is in it ?").query == "what is in it ?"
    with pytest.raises(InputError, match="1 intervals"):
        grounder.ask(encoded, "what is in it ?", about=[(0, 2)])
    with pytest.raises(InputError, match="not in the video, which ends at 12"):
        grounder.ask(encoded, "what is in <evi> ?", about=[(12, 14)])


def test_a_question_about_an_interval_is_asked_on_its_window(model: D2VLM, video: Path) -> None:
    windowed = Grounder(model, decoding=SHORT, sampling=SamplingSettings(window_s=5, overlap=0.4))
    result = windowed.ask(video, "what is in <evi> ?", about=[(8, 11)])
    ((start, end),) = result.provenance.windows_s
    assert start <= 8
    assert end >= 11
    assert result.relevance.times_s[0] == start
    with pytest.raises(InputError, match=r"no window of 5\.0 s holds all intervals"):
        windowed.ask(video, "<evi> or <evi> ?", about=[(0, 1), (10, 11)])


def test_no_text_and_blank_text_are_refused(grounder: Grounder, video: Path) -> None:
    with pytest.raises(InputError, match="0 queries"):
        grounder.query(video, [])
    with pytest.raises(InputError, match="blank"):
        grounder.query(video, "  ")


def test_a_video_encoded_at_another_rate_is_refused(model: D2VLM, video: Path) -> None:
    encoded = Grounder(model, sampling=SamplingSettings(fps=2)).encode(video)
    with pytest.raises(InputError, match=r"encoded at 2 fps, and the engine samples 1\.0"):
        Grounder(model).query(encoded, "a")


def test_a_video_encoded_by_another_model_is_refused(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    with pytest.raises(InputError, match="was encoded by another, and the engine runs"):
        grounder.query(replace(encoded, model="another"), "a")


def test_a_model_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no language tokenizer"):
        Grounder(D2VLM.from_pretrained(GOLDEN_CHECKPOINT))
    with pytest.raises(InputError, match="a loaded model keeps"):
        Grounder(D2VLM.from_pretrained(GOLDEN_CHECKPOINT), device="cpu")


@pytest.fixture(scope="module")
def captioner(model: D2VLM) -> DenseCaptioner:
    return DenseCaptioner(model, decoding=SHORT)


def test_captions_are_in_order_and_within_the_video(captioner: DenseCaptioner, video: Path) -> None:
    captions = captioner.caption(video, question="describe")
    assert len(captions) == len(list(captions)) > 1  # of this question the model makes events,
    assert captions.quality["joined"] == 2  # some of them with one text, one after the other
    texts = [event.text for event in captions]
    assert len(set(texts)) == len(texts)
    starts = [event.start_s for event in captions]
    assert starts == sorted(starts)
    assert all(0 <= e.start_s < e.end_s <= captions.video.duration_s for e in captions)
    assert all(event.text and 0 <= (event.score or 0) <= 1 for event in captions)
    assert captions.quality["truncated"] is True
    assert len(captions.answers) == 1


def test_the_same_video_gives_the_same_bytes(
    captioner: DenseCaptioner, video: Path, tmp_path: Path
) -> None:
    for name in ("one.json", "two.json"):
        captioner.caption(video).save(tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    loaded = load(tmp_path / "one.json")
    assert isinstance(loaded, Captions)
    assert loaded == captioner.caption(video)


def test_another_question_gives_another_prompt(captioner: DenseCaptioner, video: Path) -> None:
    captions = captioner.caption(video, question="List all squares.")
    assert captions.provenance.prompt == "List all squares."


def test_a_broken_video_among_many_is_reported(
    captioner: DenseCaptioner, video: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    failures: list[tuple[str, str]] = []
    seen: list[Progress] = []
    results = captioner.caption_many(
        [video, broken, video],
        on_error=lambda path, error: failures.append((path, str(error))),
        on_progress=seen.append,
    )
    assert next(results).video.path == str(video)
    assert failures == []  # nothing is done before it is asked for
    assert [captions.video.path for captions in results] == [str(video)]
    assert failures[0][0] == str(broken)
    assert "not a video" in failures[0][1]
    assert seen[-1] == Progress(str(video), 12, 12, 1, 1)
    with pytest.raises(VideoError):
        list(captioner.caption_many([broken]))
