"""Prompts as tensors: their attention mask, and time tokens in questions."""

import pytest
import torch

from tests.helpers.paths import CHECKPOINT
from vidground.errors import InputError
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.model.d2vlm import D2VLM


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def make_prompt(model: D2VLM, frames: int, seed: int = 0, **fields: object) -> PromptInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(frames, model.config.text_config.hidden_size, generator=generator)
    after = torch.randint(5, 300, (3 + seed,), generator=generator).tolist()
    before = [17, 204, 99, 31]
    return PromptInputs(**{"before": before, "after": after, "frame_tokens": tokens, **fields})


def test_frames_see_each_other_and_text_is_causal(model: D2VLM) -> None:
    one, two = make_prompt(model, 2), make_prompt(model, 3, seed=1)
    visible = batch_prompts(model, [one, two]).visible()
    # Row 0 is padded by two: 4 text, 2 frames, 3 text. Row 1: 4 text, 3 frames, 4 text.
    padded = visible[0].int()
    assert padded[4].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]  # a frame sees the next one
    assert padded[3].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]  # text sees only the past
    assert padded[8].tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]  # and nothing of the padding
    assert padded[10].any()  # padding sees something, so that no row of attention is empty
    assert visible[1].int()[4].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]


def test_a_frame_may_be_the_first_position(model: D2VLM) -> None:
    batch = batch_prompts(model, [make_prompt(model, 2, before=[])])
    assert batch.visible()[0, 0, :3].tolist() == [True, True, False]


def test_evidence_in_the_question_adds_its_frames(model: D2VLM) -> None:
    evidence = model.config.evidence_token_id
    tokens = make_prompt(model, 5).frame_tokens
    with torch.inference_mode():
        plain = batch_prompts(
            model, [PromptInputs([7], [8, evidence], tokens, spans=[(1.4, 2.6)])]
        ).embeds[0]
        embedding = model.get_input_embeddings()(torch.tensor(evidence))
    torch.testing.assert_close(plain[-1], embedding + tokens[1:4].mean(0))
    torch.testing.assert_close(plain[1:6], tokens)


@pytest.mark.parametrize("spans", [[], [(0, 1), (1, 2)]])
def test_every_evidence_in_the_question_needs_an_interval(
    model: D2VLM, spans: list[tuple[float, float]]
) -> None:
    evidence = model.config.evidence_token_id
    prompt = PromptInputs([7], [evidence], make_prompt(model, 2).frame_tokens, spans)
    with pytest.raises(InputError, match="1 time tokens"):
        batch_prompts(model, [prompt])


def test_a_prompt_without_frames_is_refused(model: D2VLM) -> None:
    with pytest.raises(InputError, match="0 frames"):
        batch_prompts(model, [make_prompt(model, 0)])
