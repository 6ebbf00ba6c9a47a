"""The released model's numbers, computed by the released code on a small random checkpoint."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.paths import GOLDEN
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.generation_queue import generate
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.generation.token_choice import TokenChooser
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

pytestmark = [pytest.mark.smoke, pytest.mark.numbers]

CASES = json.loads((GOLDEN / "cases.json").read_text())
NAMES = ("generate_query", "generate_referring", "generate_one_frame")
TOLERANCE = {"rtol": 0.0, "atol": 1e-4}
FRAME_PLACEHOLDER = -200


@dataclass(frozen=True)
class Case:
    query: str
    expected: dict[str, Tensor]
    intervals: list[list[int]]
    settings: DecodingSettings
    spans: list[tuple[float, float]]

    @property
    def ids(self) -> tuple[list[int], list[int]]:
        ids = self.expected["input_ids"].tolist()
        cut = ids.index(FRAME_PLACEHOLDER)
        return ids[:cut], ids[cut + 1 :]


def read_case(name: str) -> Case:
    case = CASES[name]
    src = case["src"] or []
    return Case(
        query=case["query"],
        expected=load_file(GOLDEN / f"{name}.safetensors"),
        intervals=case["intervals_at_evidence"],
        settings=DecodingSettings(
            max_new_tokens=case["max_new_tokens"], repetition_penalty=case["repetition_penalty"]
        ),
        spans=list(zip(src[::2], src[1::2], strict=True)),
    )


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return D2VLM.from_pretrained(GOLDEN / "checkpoint")


def prompt_of(model: D2VLM, case: Case) -> PromptInputs:
    assert model.tokenizers is not None
    question = torch.tensor([model.tokenizers.question_ids(case.query)])
    with torch.inference_mode():
        patches = model.encode_frames(case.expected["pixel_values"])
        tokens = model.compress(patches, question)
    torch.testing.assert_close(patches[:2], case.expected["patch_features"][:2], **TOLERANCE)
    torch.testing.assert_close(tokens, case.expected["frame_tokens"], **TOLERANCE)
    return PromptInputs(*case.ids, tokens, case.spans)


@pytest.mark.parametrize("name", NAMES)
def test_prefill_states_and_logits(model: D2VLM, name: str) -> None:
    case = read_case(name)
    batch = batch_prompts(model, [prompt_of(model, case)])
    with torch.inference_mode():
        context = model.context(batch.position_ids, batch.visible())
        evidence_state = model.run_layers(batch.embeds, 0, 6, context)
        matching_state = model.run_layers(evidence_state, 6, 8, context)
        logits = model.logits(model.run_layers(matching_state, 8, 9, context))
        whole = model(batch.embeds, batch.position_ids, batch.visible())
    expected = case.expected
    torch.testing.assert_close(evidence_state[0], expected["prefill_hidden_6"], **TOLERANCE)
    torch.testing.assert_close(matching_state[0], expected["prefill_hidden_minus2"], **TOLERANCE)
    torch.testing.assert_close(logits[0], expected["prefill_logits"], **TOLERANCE)
    torch.testing.assert_close(whole[0], expected["prefill_logits"], **TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_every_step(model: D2VLM, name: str) -> None:
    """Logits, penalised scores and relevance of each step, fed with the released tokens."""
    case = read_case(name)
    batch = batch_prompts(model, [prompt_of(model, case)])
    evidence_id = model.config.evidence_token_id
    with torch.inference_mode():
        decoder = BatchDecoder(model)
        decoder.add(batch)
        chooser = TokenChooser(decoder.logits.shape[1], evidence_id)
        chooser.add(batch.token_ids[0], case.settings)
        for step, token in enumerate(case.expected["generated_ids"]):
            curve, first, last = decoder.evidence()
            expected = case.expected
            scores = chooser.penalised(decoder.logits)[0]
            # The released penalty works in place, so its recorded logits are scores as well.
            torch.testing.assert_close(scores, expected["step_logits"][step], **TOLERANCE)
            torch.testing.assert_close(scores, expected["step_scores"][step], **TOLERANCE)
            torch.testing.assert_close(curve[0], expected["evidence_similarity"][step], **TOLERANCE)
            chosen = chooser.choose(decoder.logits)
            assert chosen.item() == token.item()
            embeds = decoder.embed(chosen)
            if token == evidence_id:
                assert [first.item(), last.item()] == expected["evidence_interval"][step].tolist()
                embeds = embeds + decoder.meaning(first, last)
            decoder.step(embeds)


@pytest.mark.parametrize("name", NAMES)
def test_generate_alone(model: D2VLM, name: str) -> None:
    case = read_case(name)
    (answer,) = generate(model, [prompt_of(model, case)], case.settings)
    assert answer.token_ids == case.expected["generated_ids"].tolist()
    assert [[e.first, e.last] for e in answer.evidence] == case.intervals
    for evidence in answer.evidence:
        curve = case.expected["evidence_similarity"][evidence.position]
        torch.testing.assert_close(evidence.curve, curve, **TOLERANCE)
    curve = case.expected["evidence_similarity"][0]
    torch.testing.assert_close(answer.prompt_curve, curve, **TOLERANCE)
    assert answer.truncated  # no case ends before its cap


def test_generate_as_one_batch(model: D2VLM) -> None:
    """Prompts of different lengths, frame counts, penalties and caps at once: as one by one."""
    cases = [read_case(name) for name in NAMES]
    prompts = [prompt_of(model, case) for case in cases]
    answers = generate(model, prompts, [case.settings for case in cases])
    for case, answer in zip(cases, answers, strict=True):
        assert answer.token_ids == case.expected["generated_ids"].tolist()
        assert [[e.first, e.last] for e in answer.evidence] == case.intervals
        for evidence in answer.evidence:
            curve = case.expected["evidence_similarity"][evidence.position]
            torch.testing.assert_close(evidence.curve, curve, **TOLERANCE)


def test_eager_attention_gives_the_same() -> None:
    eager = D2VLM.from_pretrained(GOLDEN / "checkpoint", attn_implementation="eager")
    case = read_case("generate_query")
    (answer,) = generate(eager, [prompt_of(eager, case)], case.settings)
    assert answer.token_ids == case.expected["generated_ids"].tolist()
    assert eager.language_model.config._attn_implementation == "eager"
