"""NaN and infinity in a model are reported with their cause and the remedy."""

from typing import Any

import pytest
import torch

from tests.helpers.graph_stand_in import Graphs
from tests.helpers.paths import CHECKPOINT
from vidground.errors import NumericError
from vidground.generation.generation_queue import Generation, GenerationQueue, generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings


@pytest.fixture
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def make_prompts(model: D2VLM, count: int) -> list[PromptInputs]:
    generator = torch.Generator().manual_seed(count)
    width = model.config.text_config.hidden_size
    return [
        PromptInputs([17, 204], [5, 6, 7], torch.randn(4, width, generator=generator))
        for _ in range(count)
    ]


def answers_to(
    model: D2VLM, prompts: list[PromptInputs], *, rows: int, graphs: bool = False
) -> list[Generation | Exception]:
    queue = GenerationQueue(model, BatchSize(rows), graphs=graphs)
    tickets = [queue.add(prompt, DecodingSettings(max_new_tokens=12)) for prompt in prompts]
    ended: dict[int, Any] = {}
    while len(queue):
        ended |= dict(queue.advance())
    return [ended[ticket] for ticket in tickets]


@pytest.mark.parametrize(
    "name",
    ["lm_head.weight", "evidence_head.3.bias", "language_model.layers.2.mlp.down_proj.weight"],
)
def test_a_nan_weight_is_named(model: D2VLM, name: str) -> None:
    with torch.no_grad():
        model.get_parameter(name).flatten()[7] = torch.nan
    with pytest.raises(NumericError, match=rf"weight {name} holds NaN .* download or convert"):
        generate(model, make_prompts(model, 2), DecodingSettings(max_new_tokens=3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_overflow_of_a_dtype_is_reported_with_the_remedy(model: D2VLM, dtype: torch.dtype) -> None:
    """The weights are finite, but their products are not."""
    model = model.to(dtype)
    with torch.no_grad():
        for layer in model.language_model.layers:
            layer.mlp.down_proj.weight.fill_(torch.finfo(dtype).max / 2)
    prompts = make_prompts(model, 1)
    remedy = {
        torch.float16: r"float16, which holds at most 65504; use --dtype bfloat16 or",
        torch.bfloat16: r"bfloat16, which holds at most 3\.3895e\+38; use --dtype float32",
        torch.float32: r"float32, which holds at most 3\.4028e\+38; check the model",
    }[dtype]
    with pytest.raises(
        NumericError, match="the language model computed NaN or infinity in " + remedy
    ):
        generate(model, prompts, DecodingSettings(max_new_tokens=3))


@pytest.fixture(params=[False, True])
def graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", Graphs())
    return bool(request.param)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_prompt_with_nan_fails_alone(model: D2VLM, rows: int, graphs: bool) -> None:
    """Prompts in its batch, or later in its row, are answered as if they were alone."""
    prompts = make_prompts(model, 5)
    expected = [answers_to(model, [prompt], rows=1)[0] for prompt in prompts]
    broken = PromptInputs([17, 204], [5] * 60, torch.full_like(prompts[0].frame_tokens, torch.inf))
    found = answers_to(model, [prompts[0], broken, *prompts[1:]], rows=rows, graphs=graphs)
    error = found.pop(1)
    assert isinstance(error, NumericError)
    assert str(error).startswith("the vision part computed NaN or infinity in float32")
    for one, other in zip(expected, found, strict=True):
        assert isinstance(one, Generation)
        assert isinstance(other, Generation)
        assert one.token_ids == other.token_ids


def test_nan_after_the_end_of_an_answer_does_not_matter(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, rows are checked every few steps and continue in between."""
    (prompt,) = make_prompts(model, 1)
    (expected,) = generate(model, [prompt], DecodingSettings(max_new_tokens=3))
    decode = GenerationQueue._decode

    def further(queue: GenerationQueue, _: int) -> Any:
        tokens, found = decode(queue, 6)
        tokens[:, 3:] = -1
        return tokens, found

    monkeypatch.setattr(GenerationQueue, "_decode", further)
    (answer,) = generate(model, [prompt], DecodingSettings(max_new_tokens=3))
    assert answer.token_ids == expected.token_ids
    with pytest.raises(NumericError):
        generate(model, [prompt], DecodingSettings(max_new_tokens=4))
