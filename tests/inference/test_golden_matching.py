"""E.T. Chat's numbers, computed by its released code on a small random checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.paths import GOLDEN
from tests.helpers.tokenizer_files import etchat_checkpoint
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.generation_queue import generate
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.generation.token_choice import TokenChooser
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

pytestmark = [pytest.mark.smoke, pytest.mark.numbers]

FOLDER = GOLDEN / "etchat"
CASES = json.loads((FOLDER / "cases.json").read_text())
NAMES = ("generate_grounding", "generate_referring")
TOLERANCE = {"rtol": 0.0, "atol": 1e-4}
FRAME_PLACEHOLDER = -200


@dataclass(frozen=True)
class Case:
    query: str
    expected: dict[str, Tensor]
    frames: list[int]
    settings: DecodingSettings
    times: list[float]

    @property
    def ids(self) -> tuple[list[int], list[int]]:
        ids = self.expected["input_ids"].tolist()
        cut = ids.index(FRAME_PLACEHOLDER)
        return ids[:cut], ids[cut + 1 :]


def read_case(name: str) -> Case:
    case = CASES[name]
    return Case(
        query=case["query"],
        expected=load_file(FOLDER / f"{name}.safetensors"),
        frames=case["frames_at_match"],
        settings=DecodingSettings(
            max_new_tokens=case["max_new_tokens"], repetition_penalty=case["repetition_penalty"]
        ),
        times=case["src"] or [],
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> D2VLM:
    folder = tmp_path_factory.mktemp("etchat")
    return D2VLM.from_pretrained(etchat_checkpoint(folder, language=False))


def prompt_of(model: D2VLM, case: Case) -> PromptInputs:
    assert model.tokenizers is not None
    question = torch.tensor([model.tokenizers.question_ids(case.query)])
    with torch.inference_mode():
        patches = model.encode_frames(case.expected["pixel_values"])
        tokens = model.compress(patches, question)
    return PromptInputs(*case.ids, tokens, [(time, time) for time in case.times])


@pytest.mark.parametrize("name", NAMES)
def test_prefill_logits(model: D2VLM, name: str) -> None:
    case = read_case(name)
    batch = batch_prompts(model, [prompt_of(model, case)])
    with torch.inference_mode():
        logits = model(batch.embeds, batch.position_ids, batch.visible())
    torch.testing.assert_close(logits[0], case.expected["prefill_logits"], **TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_every_step(model: D2VLM, name: str) -> None:
    """Scores, probabilities and frame of each step, fed with the released tokens."""
    case = read_case(name)
    batch = batch_prompts(model, [prompt_of(model, case)])
    match_id = model.config.match_token_id
    expected = case.expected
    with torch.inference_mode():
        decoder = BatchDecoder(model)
        decoder.add(batch)
        chooser = TokenChooser(decoder.logits.shape[1], match_id)
        chooser.add(batch.token_ids[0], case.settings)
        for step, token in enumerate(expected["generated_ids"]):
            curve, first, last = decoder.evidence()
            scores = chooser.penalised(decoder.logits)[0]
            torch.testing.assert_close(scores, expected["step_scores"][step], **TOLERANCE)
            torch.testing.assert_close(curve[0], expected["match_similarity"][step], **TOLERANCE)
            assert first.item() == last.item() == expected["match_frame"][step].item()
            chosen = chooser.choose(decoder.logits)
            assert chosen.item() == token.item()
            embeds = decoder.embed(chosen)
            if token == match_id:
                embeds = embeds + decoder.meaning(first, last)
            decoder.step(embeds)


@pytest.mark.parametrize("name", NAMES)
def test_generate_alone(model: D2VLM, name: str) -> None:
    case = read_case(name)
    (answer,) = generate(model, [prompt_of(model, case)], case.settings)
    assert answer.token_ids == case.expected["generated_ids"].tolist()
    assert [(e.first, e.last) for e in answer.evidence] == [(f, f) for f in case.frames]
    for evidence in answer.evidence:
        curve = case.expected["match_similarity"][evidence.position]
        torch.testing.assert_close(evidence.curve, curve, **TOLERANCE)


def test_generate_as_one_batch(model: D2VLM) -> None:
    """Prompts of different lengths, frame counts, penalties and caps at once: as one by one."""
    cases = [read_case(name) for name in NAMES]
    answers = generate(
        model, [prompt_of(model, case) for case in cases], [case.settings for case in cases]
    )
    for case, answer in zip(cases, answers, strict=True):
        assert answer.token_ids == case.expected["generated_ids"].tolist()
        assert [e.first for e in answer.evidence] == case.frames
        for evidence in answer.evidence:
            curve = case.expected["match_similarity"][evidence.position]
            torch.testing.assert_close(evidence.curve, curve, **TOLERANCE)


def test_a_saved_model_answers_the_same(model: D2VLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again, case = D2VLM.from_pretrained(tmp_path), read_case("generate_grounding")
    assert again.config.time_tokens == "matching"
    (answer,) = generate(again, [prompt_of(again, case)], case.settings)
    assert answer.token_ids == case.expected["generated_ids"].tolist()
