"""Training of models that match frames (E.T. Chat): the loss, and what goes into it."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.paths import GOLDEN
from tests.helpers.tokenizer_files import etchat_checkpoint
from tests.helpers.training_runs import tiny_model
from vidground.errors import InputError
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import Response, SftSample, TrainingPrompt
from vidground.training.objectives.forward import run_responses
from vidground.training.objectives.losses import matching_cross_entropy
from vidground.training.objectives.settings import SftSettings
from vidground.training.objectives.sft import SftLosses, sft_losses

YES = torch.ones(1, 1, dtype=torch.bool)


def test_the_loss_by_hand() -> None:
    """Two frames, one `<vid>` at the first: -(1 · log p0 + 1/2 · log p1)."""
    similarities = torch.tensor([[[[1.0, 0.0]]]])
    targets = torch.tensor([[[1.0, 0.5]]])
    found = matching_cross_entropy(similarities, targets, YES, torch.ones(1, 2, dtype=torch.bool))
    total = math.log(math.e + 1)
    assert found.item() == pytest.approx(-(1 * (1 - total) + 0.5 * (0 - total)))


def test_padding_changes_nothing_and_a_row_without_times_costs_nothing() -> None:
    similarities = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[[1.0, 0.5, 0.25], [0.5, 1.0, 0.5]]])
    both, frames = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    expected = matching_cross_entropy(similarities, targets, both, frames)
    padded = matching_cross_entropy(
        torch.nn.functional.pad(similarities, (0, 2, 0, 1), value=9.0),
        torch.nn.functional.pad(targets, (0, 2, 0, 1), value=1.0),
        torch.tensor([[True, True, False]]),
        torch.tensor([[True, True, True, False, False]]),
    )
    torch.testing.assert_close(padded, expected)
    assert matching_cross_entropy(similarities, targets, ~both, frames).tolist() == [0.0]


@pytest.mark.numbers
@pytest.mark.parametrize("name", ["generate_grounding", "generate_referring"])
def test_an_answer_is_trained_as_the_released_code_generates_it(tmp_path: Path, name: str) -> None:
    model = D2VLM.from_pretrained(etchat_checkpoint(tmp_path, language=False))
    case = json.loads((GOLDEN / "etchat" / "cases.json").read_text())[name]
    golden = load_file(GOLDEN / "etchat" / f"{name}.safetensors")
    assert model.tokenizers is not None
    ids, tokens = golden["input_ids"].tolist(), golden["generated_ids"].tolist()
    cut = ids.index(-200)
    prompt = TrainingPrompt(
        before=ids[:cut],
        after=ids[cut + 1 :],
        question=model.tokenizers.question_ids(case["query"]),
        frames=golden["pixel_values"],
        spans=[(time, time) for time in case["src"] or ()],
    )
    sample = SftSample(prompt, Response(tokens, [(f, f) for f in case["frames_at_match"]]))
    batch = Collator.of(model.config, SftSettings())([sample])
    with torch.no_grad():
        (outputs,) = run_responses(model, batch)
    said = [index for index, token in enumerate(tokens) if token == model.config.match_token_id]
    root = model.config.text_config.hidden_size**0.5
    found = (outputs.similarities[0, 0] * root).softmax(-1)
    expected = golden["match_similarity"][said]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def samples(model: D2VLM, *spans: tuple[float, float]) -> list[SftSample]:
    """A film of four frames, and an answer with an instant for each span."""
    assert model.tokenizers is not None
    frames = torch.randint(256, (4, 3, 20, 20), generator=torch.Generator().manual_seed(1))
    prompt = TrainingPrompt([300], [301, 302], [5, 6], frames.to(torch.uint8))
    ids = [token for _ in spans for token in (310, model.config.time_token_id)]
    return [SftSample(prompt, Response([*ids, model.config.turn_end_token_id], spans))]


def losses(model: D2VLM, *spans: tuple[float, float]) -> SftLosses:
    settings = SftSettings()
    return sft_losses(model, Collator.of(model.config, settings)(samples(model, *spans)), settings)


def test_times_are_not_rounded_but_kept_within_the_film() -> None:
    model = tiny_model(time_tokens="matching")
    batch = Collator.of(model.config, SftSettings())(samples(model, (1.4, 1.4), (7.5, 7.5)))
    response = batch.responses[0]
    torch.testing.assert_close(response.starts, torch.tensor([[1.4, 3.0]]))
    torch.testing.assert_close(response.ends, response.starts)
    # The embedding of a `<vid>` takes the nearest frame.
    assert batch.evidence.first.tolist() == batch.evidence.last.tolist() == [[1, 3]]


def test_both_heads_learn_from_the_matching_loss() -> None:
    model = tiny_model(time_tokens="matching")
    found = losses(model, (1.4, 1.4), (3.0, 3.0))
    assert found.consistency.tolist() == [0.0]
    found.grounding.sum().backward()
    for head in (model.frame_head, model.evidence_head):
        assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    assert losses(model).grounding.tolist() == [0.0]


def test_an_answer_needs_one_time_for_each_token() -> None:
    model = tiny_model(time_tokens="matching")
    (sample,) = samples(model, (1, 1))
    wrong = SftSample(sample.prompt, Response(sample.response.token_ids, []))
    with pytest.raises(InputError, match="1 <vid> and 0 instants"):
        Collator.of(model.config, SftSettings())([wrong])
