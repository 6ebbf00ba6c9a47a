"""Operations and weights counted by hand, and by torch as it runs the model."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.training_runs import tiny_model
from vidground.benchmark.random_model import mid_config, official_config
from vidground.benchmark.released_procedure import GrowingCache, eager_attention
from vidground.benchmark.workload import (
    Work,
    compression_work,
    prefill_work,
    token_work,
    vision_work,
)
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.model.d2vlm import D2VLM


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return tiny_model().eval().requires_grad_(False)


@torch.inference_mode()
def counted(model: D2VLM, run: Callable[[], object]) -> int:
    """With attention step by step, which torch counts on every device."""
    with eager_attention(model), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def pixels(model: D2VLM, frames: int) -> torch.Tensor:
    return torch.randn(frames, 3, model.config.image_size, model.config.image_size)


def test_vision_is_counted_as_torch_does(model: D2VLM) -> None:
    frames = pixels(model, 3)
    assert vision_work(model.config, 3).flops == counted(model, lambda: model.encode_frames(frames))


def test_compression_is_counted_as_torch_does(model: D2VLM) -> None:
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    features = torch.randn(3, patches, vision.hidden_size)
    question = torch.randint(5, 20, (1, 7))
    found = counted(model, lambda: model.compress(features, question))
    assert compression_work(model.config, 3, 7).flops == found


def test_the_language_model_is_counted_as_torch_does(model: D2VLM) -> None:
    config = model.config
    length, frames, layers = 11, 4, config.text_config.num_hidden_layers
    cache = GrowingCache(layers)
    embeds = torch.randn(1, length, config.text_config.hidden_size)

    def prefill() -> None:
        visible = torch.ones(1, length, length, dtype=torch.bool).tril()
        context = model.context(torch.arange(length)[None], visible, cache)
        hidden = model.run_layers(embeds, 0, layers, context)
        model.logits(hidden[:, -1])
        model.frame_head(hidden[:, :frames])
        model.evidence_head(hidden[:, -1])

    def token() -> None:
        visible = torch.ones(1, 1, length + 1, dtype=torch.bool)
        context = model.context(torch.tensor([[length]]), visible, cache)
        model.logits(model.run_layers(embeds[:, :1], 0, layers, context)[:, -1])

    work = prefill_work(config, [length], [frames])
    assert work.flops == counted(model, prefill)
    assert token_work(config, [length + 1]).flops == counted(model, token)


def test_the_common_prefix_is_not_counted_again(model: D2VLM) -> None:
    width = model.config.text_config.hidden_size
    batch = batch_prompts(model, [PromptInputs([5, 6, 7], [8, 9], torch.randn(4, width))])

    def prefill() -> None:
        decoder = BatchDecoder(model)
        decoder.add(batch)
        model.evidence_head(decoder.matching)

    counted(model, prefill)  # the first time they are read
    assert prefill_work(model.config, [9], [4], start=3).flops == counted(model, prefill)


def test_the_released_size_by_hand() -> None:
    """spec, 1: 39 blocks of width 1408 and 257 tokens; 32 layers of width 3072."""
    config = official_config()
    block = 2 * 257 * (4 * 1408**2 + 2 * 1408 * 6144) + 4 * 257**2 * 1408
    assert vision_work(config, 1).flops == 39 * block + 2 * 256 * 588 * 1408
    layers = 32 * (4 * 3072**2 + 3 * 3072 * 8192)
    token = token_work(config, [300])
    assert token.flops == 2 * (layers + 32064 * 3072) + 32 * 4 * 300 * 3072
    assert token.numbers == layers + 32064 * 3072 + 2 * 32 * 300 * 3072


@pytest.mark.parametrize("config", [official_config(), mid_config()])
def test_weights_are_those_of_the_parts(config) -> None:
    """But norms, biases, positions and queries, which are less than a twentieth."""
    with torch.device("meta"):
        model = D2VLM(config)

    def size(part: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    words = size(model.compressor.qformer.embeddings)
    read = {
        "vision": (vision_work(config, 1), size(model.vision)),
        "compressor": (compression_work(config, 1, 1), size(model.compressor) - words),
        "prefill": (
            prefill_work(config, [1], [1]),
            size(model) - size(model.vision) - size(model.compressor)
            - model.get_input_embeddings().weight.numel(),
        ),
    }  # fmt: skip
    for name, (work, numbers) in read.items():
        assert 0.95 * numbers < work.numbers <= numbers, name


def test_sequences_share_weights_but_not_operations() -> None:
    config = mid_config()
    one, both = token_work(config, [100]), token_work(config, [100, 100])
    cached = 2 * 12 * 768 * 100
    assert both == Work(2 * one.flops, one.numbers + cached)
