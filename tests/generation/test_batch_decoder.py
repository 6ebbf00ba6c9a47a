"""Rows that are decoded together: the same numbers as a full pass, and memory that is freed."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.helpers.graph_stand_in import Graphs
from tests.helpers.nearly import ROUNDING
from tests.helpers.paths import CHECKPOINT
from vidground.generation.batch_decoder import (
    BatchDecoder,
    borrow_decoder,
    give_back_decoder,
    step_rows,
)
from vidground.generation.cuda_graphs import StepGraphs
from vidground.generation.generation_queue import GenerationQueue, generate
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

pytestmark = pytest.mark.numbers


@pytest.fixture
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def make_prompts(model: D2VLM, count: int, *, longest: int = 40) -> list[PromptInputs]:
    generator = torch.Generator().manual_seed(count)
    width = model.config.text_config.hidden_size
    return [
        PromptInputs(
            [17, 204, 99, 31],
            torch.randint(5, 300, (1 + 29 * index % longest,), generator=generator).tolist(),
            torch.randn(2 + 5 * index % 17, width, generator=generator),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("frames", [6, 55])  # the second crosses the end of a block of positions
def test_cached_decoding_equals_a_full_forward(model: D2VLM, frames: int) -> None:
    """Feeding tokens one by one gives the logits of the whole sequence in one pass."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(frames, model.config.text_config.hidden_size, generator=generator)
    prompt = PromptInputs([17, 204, 99, 31], [9, 40, 7], tokens)
    extra = torch.tensor([40, 77, 123])
    batch = batch_prompts(model, [prompt])
    with torch.inference_mode():
        decoder = BatchDecoder(model)
        decoder.add(batch)
        stepwise = [decoder.logits[0]]
        for token in extra:
            decoder.step(decoder.embed(token[None]))
            stepwise.append(decoder.logits[0])
        longer = batch_prompts(
            model,
            [PromptInputs(prompt.before, [*prompt.after, *extra.tolist()], prompt.frame_tokens)],
        )
        whole = model(longer.embeds, longer.position_ids, longer.visible())[0]
    torch.testing.assert_close(torch.stack(stepwise), whole[-4:], rtol=0, atol=ROUNDING)


def decode(decoder: BatchDecoder, prompts: list[PromptInputs], steps: int) -> torch.Tensor:
    """Return the logits of each step; a prompt is added before each step while there are any."""
    logits = []
    with torch.inference_mode():
        for step in range(steps):
            if step < len(prompts):
                decoder.add(batch_prompts(decoder.model, [prompts[step]]))
            token = torch.full((len(decoder),), 5 + step)
            decoder.step(decoder.embed(token))
            logits.append(decoder.logits[0])
    return torch.stack(logits)


def test_memory_for_all_rows_is_allocated_with_the_second(model: D2VLM) -> None:
    graphs = Graphs()
    decoder = BatchDecoder(model, recorded_rows=6, recorder=graphs)
    rooms = []
    with torch.inference_mode():
        for prompt in make_prompts(model, 6, longest=20):
            decoder.add(batch_prompts(model, [prompt]))
            decoder.step(torch.zeros(len(decoder), model.config.text_config.hidden_size))
            rooms.append(decoder.room)
    assert rooms == [1, 6, 6, 6, 6, 6]
    assert graphs.recorded == 4  # for 1, 2, 4 and 6 rows


@pytest.mark.parametrize(
    ("rows", "most", "computed"),
    [(1, 1, 1), (1, 64, 1), (3, 64, 4), (5, 6, 6), (33, 33, 33), (17, 33, 32), (33, 64, 64)],
)
def test_recorded_steps_compute_no_more_rows_than_planned(
    rows: int, most: int, computed: int
) -> None:
    assert step_rows(rows, most) == computed


@pytest.mark.parametrize("forgets", [True, False])
def test_steps_are_recorded_again_when_the_cache_moves(
    model: D2VLM, forgets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that is not dropped uses the old memory."""
    if not forgets:
        monkeypatch.setattr(StepGraphs, "forget", lambda _: None)
    prompts, other, span = make_prompts(model, 1), make_prompts(model, 2)[1:], 256
    steps = span - len(prompts[0]) + 8  # until the cache has grown
    expected = decode(BatchDecoder(model), prompts, steps)
    graphs = Graphs()
    decoder = BatchDecoder(model, recorded_rows=1, recorder=graphs)
    found = decode(decoder, prompts, steps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert graphs.recorded == 2  # for the spans of 256 and 512, in which it was checked
    decoder.clear()
    found = decode(decoder, other, 8)  # with 256 positions once more
    expected = decode(BatchDecoder(model), other, 8)
    assert torch.allclose(found, expected, rtol=0, atol=1e-4) is forgets


def test_an_idle_decoder_is_borrowed_once(model: D2VLM) -> None:
    one, two = borrow_decoder(model, 4), borrow_decoder(model, 4)
    assert one is not two
    give_back_decoder(one)
    assert borrow_decoder(model, 3) is one
    give_back_decoder(one)
    assert borrow_decoder(model, 5) is not one  # its recordings are for fewer rows


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def cache_of(decoder: BatchDecoder) -> weakref.ref[torch.Tensor]:
    keys = decoder._cache._keys[0]
    assert keys is not None
    return weakref.ref(keys)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("rows", [0, 1])
def test_the_cache_is_freed_without_the_garbage_collector(model: D2VLM, rows: int) -> None:
    decoder = BatchDecoder(model, recorded_rows=rows, recorder=Graphs())
    decode(decoder, make_prompts(model, 1), 3)
    cache = cache_of(decoder)
    del decoder
    assert cache() is None


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("count", [2, 1])
def test_the_cache_is_freed_before_memory_is_released(
    model: D2VLM, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both when fewer rows are tried next and when the error of a single row is returned."""
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", Graphs())
    caches: list[weakref.ref[torch.Tensor]] = []
    released: list[bool] = []
    step = BatchDecoder.step

    def tight(decoder: BatchDecoder, embeds: torch.Tensor) -> None:
        step(decoder, embeds)
        if decoder.room == count and len(caches) < 3:
            caches.append(cache_of(decoder))
            if len(caches) == 3:
                raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BatchDecoder, "step", tight)
    monkeypatch.setattr(
        "vidground.generation.generation_queue.release_memory",
        lambda: released.append(all(cache() is None for cache in caches)),
    )
    queue = GenerationQueue(model, BatchSize(count), graphs=True)
    for prompt in make_prompts(model, count):
        queue.add(prompt, DecodingSettings(max_new_tokens=9))
    ended: dict[int, object] = {}
    while len(queue):
        ended |= dict(queue.advance())
    assert released == [True]
    failed = [isinstance(answer, torch.OutOfMemoryError) for answer in ended.values()]
    assert failed == ([True] if count == 1 else [False, False])


def test_the_number_of_allocated_rows_is_halved(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two used rows do not mean that two are too many."""
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", Graphs())
    add = BatchDecoder.add

    def tight(decoder: BatchDecoder, batch: Any) -> None:
        add(decoder, batch)
        if decoder.room > 9:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BatchDecoder, "add", tight)
    prompts, settings = make_prompts(model, 2), DecodingSettings(max_new_tokens=4)
    size = BatchSize(32)
    queue = GenerationQueue(model, size, graphs=True)
    for prompt in prompts:
        queue.add(prompt, settings)
    ended: dict[int, Any] = {}
    while len(queue):
        ended |= dict(queue.advance())
    assert size.now == 8
    alone = [generate(model, [prompt], settings)[0].token_ids for prompt in prompts]
    assert [ended[ticket].token_ids for ticket in (1, 2)] == alone
