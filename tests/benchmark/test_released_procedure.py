"""The released procedure gives our answers, and does all that it is said to do."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.nearly import ROUNDING
from tests.helpers.random_models import prompts, tiny_config
from tests.helpers.video_files import make_video, read_index
from vidground import DecodingSettings
from vidground.benchmark import released_procedure
from vidground.benchmark.measuring import STAGES, StageMeter
from vidground.benchmark.random_model import randomized
from vidground.benchmark.released_procedure import (
    answer_as_released,
    best_run,
    decode_in_full,
    eager_attention,
    generate_as_released,
    prepare_floats,
)
from vidground.checkpoints.loading import load_model
from vidground.generation.generation_queue import generate
from vidground.language.prompts import captioning_question, chat_prompt, encode_prompt
from vidground.model.d2vlm import D2VLM
from vidground.model.evidence import best_interval
from vidground.video.frame_sampler import FrameSampler
from vidground.video.reader import VideoReader

pytestmark = pytest.mark.numbers

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return randomized(tiny_config())


@pytest.fixture(scope="module")
def toy() -> D2VLM:
    return load_model("toy", dtype="float32")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "v.mp4", frames=150, size=(96, 64))


def test_random_weights_answer_alike(model) -> None:
    """Tokens, intervals and curves, of the same frames."""
    ours = generate(model, prompts(model, 7, 12), DecodingSettings(33, loop_tokens=0))
    for prompt, wanted in zip(prompts(model, 7, 12), ours, strict=True):
        found = generate_as_released(model, prompt, tokens=33, meter=StageMeter(CPU))
        assert found.token_ids == wanted.token_ids
        assert found.truncated
        assert len(found.evidence) == 4
        for their, our in zip(found.evidence, wanted.evidence, strict=True):
            assert (their.position, their.first, their.last) == (our.position, our.first, our.last)
            torch.testing.assert_close(their.curve, our.curve, atol=ROUNDING, rtol=0)
        torch.testing.assert_close(found.prompt_curve, wanted.prompt_curve, atol=ROUNDING, rtol=0)


def test_a_trained_model_answers_alike_and_ends(toy, video) -> None:
    prompt = encode_prompt(chat_prompt(captioning_question()), toy.tokenizers)
    meter = StageMeter(CPU)
    found = answer_as_released(toy, video, prompt, fps=1, tokens=60, meter=meter)
    assert set(meter.usage) == set(STAGES) - {"write"}
    from vidground import DenseCaptioner

    engine = DenseCaptioner(toy).engine
    answers = engine.answer(video, [chat_prompt(captioning_question())])
    assert found.token_ids == answers.of(0)[0].token_ids
    assert not found.truncated
    assert found.token_ids[-1] == toy.config.turn_end_token_id


def test_it_computes_all_states_and_logits_like_the_released_code(model, monkeypatch) -> None:
    made = []
    original = released_procedure._GreedyAnswer

    def remembered(*arguments):
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(released_procedure, "_GreedyAnswer", remembered)
    (prompt,) = prompts(model, 6)
    generate_as_released(model, prompt, tokens=5, meter=StageMeter(CPU))
    layers = model.config.text_config.num_hidden_layers
    (answer,) = made
    assert len(answer.steps) == 5
    for step, (states, logits) in enumerate(answer.steps):
        positions = len(prompt) if step == 0 else 1
        assert [state.shape[1] for state in states] == [positions] * (layers + 1)
        assert logits.shape[1] == positions
        assert logits.dtype == torch.float32


def test_attention_is_eager_only_inside_the_block(model) -> None:
    config = model.config
    with eager_attention(model):
        for part in (config, config.vision_config, config.qformer_config, config.text_config):
            assert part._attn_implementation == "eager"
    assert config.text_config._attn_implementation == "sdpa"
    assert config.vision_config._attn_implementation == "sdpa"


def test_sampled_frames_equal_ours_at_full_size(video) -> None:
    frames = decode_in_full(video, fps=1)
    assert frames.shape == (6, 64, 96, 3)
    assert [read_index(frame) for frame in frames] == [0, 25, 50, 75, 100, 125]


def test_every_frame_of_the_file_is_decoded(video, monkeypatch) -> None:
    def skip(_: FrameSampler) -> None:
        raise AssertionError("skipped")

    monkeypatch.setattr(FrameSampler, "_frames_by_skipping", skip)
    assert len(decode_in_full(video, fps=1)) == 6


def test_a_frame_that_several_samples_show_is_taken_for_each(tmp_path) -> None:
    slow = make_video(tmp_path / "slow.mp4", frames=3, fps=1, size=(96, 64))
    assert [read_index(frame) for frame in decode_in_full(slow, fps=2)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_floats_are_within_a_grey_level_of_our_pictures(tmp_path, size) -> None:
    path = make_video(tmp_path / "v.mp4", frames=60, size=size)
    floats = prepare_floats(decode_in_full(path, fps=1), 32)
    ours = torch.stack([run.pixels for run in VideoReader(path, fps=1, image_size=32).runs()])
    from vidground.video.preprocessing import CLIP_STD, normalize

    grey_levels = (floats - normalize(ours, dtype=torch.float32, device="cpu")).abs() * 255
    assert (grey_levels * torch.tensor(CLIP_STD).view(3, 1, 1)).max() < 1.01


@given(st.lists(st.sampled_from([0.1, 0.5, 0.59, 0.6, 0.8, 1.0]), min_size=1, max_size=12))
def test_the_interval_equals_ours(values) -> None:
    curve = torch.tensor([values], dtype=torch.float64)
    first, last = best_interval(curve, torch.ones_like(curve, dtype=torch.bool), threshold=0.6)
    assert best_run(values, threshold=0.6) == (int(first), int(last))
