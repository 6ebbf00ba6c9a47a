"""Batches that fit into memory, and what becomes of those that do not."""

from pathlib import Path

import pytest
import torch

import vidground.batch_sizes
from vidground.batch_sizes import BatchSize, choose_sizes, frame_bytes, in_parts, row_bytes
from vidground.decoder import Decoder
from vidground.encoding import FittingEncoder
from vidground.generation import GenerationQueue, generate, generate_each
from vidground.modeling import D2VLM
from vidground.sequences import PromptBatch, PromptInputs
from vidground.settings import BatchSettings, DecodingSettings

CHECKPOINT = Path(__file__).parent / "golden" / "checkpoint"
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


def chosen(model: D2VLM, settings: BatchSettings, monkeypatch: pytest.MonkeyPatch, free: int):
    monkeypatch.setattr(vidground.batch_sizes, "free_bytes", lambda _: free)
    return choose_sizes(
        settings, model.config, device=torch.device("cpu"), item_bytes=4, new_tokens=64
    )


def test_sizes_follow_the_free_memory(model: D2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    row, frame = row_bytes(model.config, 4, 64), frame_bytes(model.config, 4)
    large = chosen(model, BatchSettings(), monkeypatch, 64 * GIB)
    assert (large.prompts, large.frames, large.videos) == (8, 16, 6)
    tight = chosen(model, BatchSettings(), monkeypatch, max(4 * row, 10 * frame))
    assert tight.prompts == max(4 * row, 10 * frame) // 2 // row
    none = chosen(model, BatchSettings(), monkeypatch, 0)
    assert (none.prompts, none.frames) == (1, 1)
    assert none.readers <= none.videos


def test_what_is_set_is_taken(model: D2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = BatchSettings(prompts=3, frames=5, videos=9, readers=7)
    sizes = chosen(model, asked, monkeypatch, 0)
    assert (sizes.prompts, sizes.frames, sizes.videos, sizes.readers) == (3, 5, 9, 7)


def test_free_memory_is_measured() -> None:
    assert GIB // 64 < vidground.batch_sizes.free_bytes(torch.device("cpu")) < 1 << 50


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_parts_are_halved_until_they_fit(error: Exception) -> None:
    sizes: list[int] = []

    def double(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 3:
            raise error
        return 2 * part

    size = BatchSize(12)
    assert in_parts(double, torch.arange(8), size).tolist() == list(range(0, 16, 2))
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert size.now == 2  # and stays


def test_one_that_does_not_fit_and_other_errors_are_raised() -> None:
    def no_room(_: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(MemoryError):
        in_parts(no_room, torch.arange(4), BatchSize(4))
    with pytest.raises(RuntimeError, match="shapes differ"):
        in_parts(broken, torch.arange(4), BatchSize(4))


def test_vision_takes_fewer_frames_when_memory_runs_out(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = model.config.image_size
    pixels = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = model.encode_frames(pixels)
    encode = model.encode_frames

    def tight(part: torch.Tensor) -> torch.Tensor:
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(part)

    monkeypatch.setattr(model, "encode_frames", tight)
    found = FittingEncoder(model, BatchSize(16)).encode_frames(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("place", ["add", "step"])
def test_decoding_begins_again_with_fewer_rows_when_memory_runs_out(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    prompts, settings = make_prompts(model, 7), DecodingSettings(max_new_tokens=20)
    expected = [generate(model, [prompt], settings)[0] for prompt in prompts]
    original = getattr(Decoder, place)
    tried: list[int] = []

    def tight(decoder: Decoder, given: PromptBatch | torch.Tensor) -> None:
        rows = len(given.lengths) + len(decoder) if isinstance(given, PromptBatch) else len(given)
        tried.append(rows)
        if rows > 2 and (place == "add" or len(tried) > 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(decoder, given)

    monkeypatch.setattr(Decoder, place, tight)
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
    original = Decoder.add

    def tight(decoder: Decoder, batch: PromptBatch) -> None:
        if large in batch.lengths:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(decoder, batch)

    monkeypatch.setattr(Decoder, "add", tight)
    queue = GenerationQueue(model, BatchSize(3))
    for prompt in prompts:
        queue.add(prompt, DecodingSettings(max_new_tokens=5))
    ended: dict[int, object] = {}
    while len(queue):
        ended |= dict(queue.advance())
    assert [isinstance(ended[ticket], Exception) for ticket in (1, 2, 3)] == [False, True, False]
