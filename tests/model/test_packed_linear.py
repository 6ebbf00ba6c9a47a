"""Linear layers with prepacked weights compute the same as before."""

import copy
import io

import pytest
import torch
from torch import nn

import vidground.model.packed_linear
from tests.helpers.paths import CHECKPOINT
from vidground.generation.generation_queue import generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.model.d2vlm import D2VLM
from vidground.model.packed_linear import PackedLinear, pack_linears
from vidground.settings import DecodingSettings

pytestmark = pytest.mark.smoke

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 7, bias=False))


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 24), (2, 24), (3, 5, 24), (64, 24), (65, 24), (2, 1, 24)])
def test_the_product_is_the_same(shape: tuple[int, ...]) -> None:
    plain, packed = small(), small()
    assert pack_linears(packed)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), plain(inputs), rtol=0, atol=1e-5)


@needs_onednn
def test_only_small_batches_use_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(4, 3)
    pack_linears(layer)
    made: list[int] = []
    arranged = PackedLinear._prepacked

    def counted(self: PackedLinear) -> torch.Tensor:
        made.append(1)
        return arranged(self)

    monkeypatch.setattr(PackedLinear, "_prepacked", counted)
    with torch.no_grad():
        layer(torch.zeros(1, 4))
        layer(torch.zeros(65, 4))
        layer.double()(torch.zeros(2, 4, dtype=torch.float64))
        layer.float()
        assert not made
        layer(torch.zeros(2, 4))
        assert made
    layer(torch.zeros(2, 4)).sum().backward()  # gradients flow as ever
    assert layer.weight.grad is not None
    assert len(made) == 1


@needs_onednn
def test_the_copy_follows_the_weights() -> None:
    layer = nn.Linear(4, 3)
    pack_linears(layer)
    inputs = torch.randn(5, 4)
    with torch.no_grad():
        layer(inputs)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(inputs), inputs @ layer.weight.T + layer.bias)
        layer.weight = nn.Parameter(torch.randn(3, 4))
        torch.testing.assert_close(layer(inputs), inputs @ layer.weight.T + layer.bias)


@needs_onednn
def test_the_copy_is_neither_copied_nor_saved() -> None:
    packed = small()
    pack_linears(packed)
    with torch.no_grad():
        expected = packed(torch.ones(3, 24))
        again = copy.deepcopy(packed)
        assert again[0]._packed is None
        torch.testing.assert_close(again(torch.ones(3, 24)), expected)
    assert packed.state_dict().keys() == small().state_dict().keys()
    torch.save(packed, io.BytesIO())


def test_nothing_is_packed_with_little_memory_or_other_dtypes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not pack_linears(nn.Linear(4, 3, dtype=torch.bfloat16))
    monkeypatch.setattr(vidground.model.packed_linear, "free_bytes", lambda _: 95)
    layer = nn.Linear(4, 3)  # 48 bytes of weights
    assert not pack_linears(layer)
    assert type(layer) is nn.Linear


@needs_onednn
def test_answers_are_the_same() -> None:
    model = D2VLM.from_pretrained(CHECKPOINT)
    width = model.config.text_config.hidden_size
    generator = torch.Generator().manual_seed(0)
    prompts = [
        PromptInputs([7, 8], [9 + n], torch.randn(3 + n, width, generator=generator))
        for n in range(5)
    ]
    settings = DecodingSettings(max_new_tokens=20)
    expected = [answer.token_ids for answer in generate(model, prompts, settings)]
    assert pack_linears(model.language_model, model.lm_head)
    assert [answer.token_ids for answer in generate(model, prompts, settings)] == expected
