"""Batch sizes that fit into memory, and smaller ones when memory runs out."""

import copy
import os
import weakref
from functools import partial

import pytest
import torch

import vidground.inference.batch_sizes
from tests.helpers.nearly import ROUNDING
from tests.helpers.paths import CHECKPOINT
from vidground.features.frame_encoding import FittingEncoder
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.generation_queue import GenerationQueue, generate, generate_each
from vidground.generation.prompt_batch import PromptBatch, PromptInputs
from vidground.inference.batch_sizes import BatchSizes, choose_sizes, frame_bytes, row_bytes
from vidground.memory import BatchSize, in_parts
from vidground.model.d2vlm import D2VLM
from vidground.model.kv_cache import KeyValueCache
from vidground.settings import BatchSettings, DecodingSettings
from vidground.video.preprocessing import normalize

GIB = 1 << 30


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def make_prompts(model: D2VLM, count: int) -> list[PromptInputs]:
    generator = torch.Generator().manual_seed(count)
    width = model.config.text_config.hidden_size
    return [
        PromptInputs(
            torch.randint(5, 300, (3,), generator=generator).tolist(),
            torch.randint(5, 300, (1 + 13 * index % 40,), generator=generator).tolist(),
            torch.randn(2 + 5 * index % 17, width, generator=generator),
        )
        for index in range(count)
    ]


def chosen(
    model: D2VLM,
    settings: BatchSettings,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    device: str = "cpu",
) -> BatchSizes:
    monkeypatch.setattr(vidground.inference.batch_sizes, "free_bytes", lambda _: free)
    return choose_sizes(
        settings, model.config, device=torch.device(device), item_bytes=4, new_tokens=64
    )


def test_sizes_follow_the_free_memory(model: D2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    row, frame = row_bytes(model.config, 4, 64), frame_bytes(model.config, 4)
    large = chosen(model, BatchSettings(), monkeypatch, 64 * GIB)
    assert (large.prompts, large.frames, large.videos) == (8, 16, 6)
    tight = chosen(model, BatchSettings(), monkeypatch, max(4 * row, 10 * frame))
    assert tight.prompts == max(4 * row, 10 * frame) // 2 // row
    few = chosen(model, BatchSettings(), monkeypatch, 15 * frame)
    assert few.frames == 3
    none = chosen(model, BatchSettings(), monkeypatch, 0)
    assert (none.prompts, none.frames) == (1, 1)
    assert none.readers <= none.videos


def test_sizes_that_are_set_are_used(model: D2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = BatchSettings(prompts=3, frames=5, videos=9, readers=7)
    sizes = chosen(model, asked, monkeypatch, 0)
    assert (sizes.prompts, sizes.frames, sizes.videos, sizes.readers) == (3, 5, 9, 7)


def test_a_gpu_has_larger_batches_and_videos_for_twice_its_rows(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = chosen(model, BatchSettings(), monkeypatch, 64 * GIB, "cuda")
    assert (large.prompts, large.frames, large.videos) == (64, 128, 128)


@pytest.mark.parametrize(("cores", "readers"), [(1, 2), (3, 3), (64, 6)])
def test_readers_follow_the_cores(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch, cores: int, readers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert chosen(model, BatchSettings(), monkeypatch, GIB).readers == readers
    on_gpu = chosen(model, BatchSettings(), monkeypatch, 64 * GIB, "cuda")
    assert on_gpu.readers == {1: 2, 3: 3, 64: 16}[cores]


def test_each_block_of_tokens_adds_its_keys_and_values_to_a_row(model: D2VLM) -> None:
    layers = model.config.text_config.num_hidden_layers
    cache = KeyValueCache(layers)
    embeds = torch.zeros(1, 1, model.config.text_config.hidden_size)
    with torch.inference_mode():
        seen = torch.ones(1, 1, 1, dtype=torch.bool)
        context = model.context(torch.zeros(1, 1, dtype=torch.long), seen, cache)
        model.run_layers(embeds, 0, layers, context)
    stores = [store for store in (*cache._keys, *cache._values) if store is not None]
    a_position = sum(store[:, :, :1].nbytes for store in stores)
    config = copy.deepcopy(model.config)
    config.max_frames, config.text_config.max_position_embeddings = 128, 4096  # prompts of 256
    sizes = [row_bytes(config, 4, tokens) for tokens in (1, 256, 257, 100_000)]
    assert [size - sizes[0] for size in sizes] == [0, 0, 256 * a_position, 3584 * a_position]


def test_fewer_readers_if_each_needs_memory_of_the_gpu(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(vidground.inference.batch_sizes, "free_bytes", lambda _: 64 * GIB)
    size = partial(
        choose_sizes,
        config=model.config,
        device=torch.device("cpu"),
        item_bytes=4,
        new_tokens=64,
    )
    many = BatchSettings(videos=40)
    assert (size(many).readers, size(many, readers_use_card=True).readers) == (16, 8)
    assert size(BatchSettings(readers=12), readers_use_card=True).readers == 12


class Memory:
    """Imitates a GPU's: tensors of a failed computation must be gone before memory is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: list[weakref.ref[torch.Tensor]] = []
        self.freed = 0
        for module in ("memory", "generation.generation_queue"):
            monkeypatch.setattr(f"vidground.{module}.release_memory", self.release)

    def run_out(self) -> None:
        made = torch.zeros(3)
        self.held.append(weakref.ref(made))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def release(self) -> None:
        assert all(made() is None for made in self.held)
        self.freed += 1


def test_memory_is_released_when_no_tensor_is_left(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch)

    def double(part: torch.Tensor) -> torch.Tensor:
        if len(part) > 1:
            memory.run_out()
        return 2 * part

    in_parts(double, torch.arange(4), BatchSize(4))
    assert memory.freed == 2
    add = BatchDecoder.add

    def tight(decoder: BatchDecoder, batch: PromptBatch) -> None:
        if len(batch.lengths) > 1:
            memory.run_out()
        add(decoder, batch)

    monkeypatch.setattr(BatchDecoder, "add", tight)
    prompts = make_prompts(model, 1) * 2
    assert len(generate(model, prompts, DecodingSettings(max_new_tokens=2))) == 2
    assert memory.freed == 3


def test_fewer_frames_are_encoded_when_memory_runs_out(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5, 3, size, size), generator=generator, dtype=torch.uint8)
    expected = model.encode_frames(normalize(pixels, dtype=torch.float32, device="cpu"))
    encode = model.encode_frames

    def tight(part: torch.Tensor) -> torch.Tensor:
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(part)

    monkeypatch.setattr(model, "encode_frames", tight)
    found = FittingEncoder(model, BatchSize(16)).encode_pixels(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("place", ["add", "step"])
def test_decoding_restarts_with_fewer_rows_when_memory_runs_out(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    prompts, settings = make_prompts(model, 7), DecodingSettings(max_new_tokens=20)
    expected = [generate(model, [prompt], settings)[0] for prompt in prompts]
    original = getattr(BatchDecoder, place)
    tried: list[int] = []

    def tight(decoder: BatchDecoder, given: PromptBatch | torch.Tensor) -> None:
        rows = len(given.lengths) + len(decoder) if isinstance(given, PromptBatch) else len(given)
        tried.append(rows)
        if rows > 2 and (place == "add" or len(tried) > 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(decoder, given)

    monkeypatch.setattr(BatchDecoder, place, tight)
    size = BatchSize(7)
    found = list(generate_each(model, prompts, settings, size))
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in expected]
    assert size.now <= 2
    assert max(tried) > 2


def test_a_prompt_that_does_not_fit_alone_fails_alone(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = make_prompts(model, 3)
    large = len(prompts[1])
    original = BatchDecoder.add

    def tight(decoder: BatchDecoder, batch: PromptBatch) -> None:
        if large in batch.lengths:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(decoder, batch)

    monkeypatch.setattr(BatchDecoder, "add", tight)
    queue = GenerationQueue(model, BatchSize(3))
    for prompt in prompts:
        queue.add(prompt, DecodingSettings(max_new_tokens=5))
    ended: dict[int, object] = {}
    while len(queue):
        ended |= dict(queue.advance())
    assert [isinstance(ended[ticket], Exception) for ticket in (1, 2, 3)] == [False, True, False]
