"""The common prefix of prompts: computed once, with the same results, and never stale."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from tests.helpers.paths import CHECKPOINT
from vidground.generation.generation_queue import Generation, GenerationQueue, generate
from vidground.generation.prefix_cache import _MAX_PREFIXES, shared_prefix
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

SHORT = DecodingSettings(max_new_tokens=7)
START = [17, 204, 99, 31]


@pytest.fixture
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def prompt_of(model: D2VLM, frames: int, before: list[int], **fields: object) -> PromptInputs:
    generator = torch.Generator().manual_seed(frames)
    tokens = torch.randn(frames, model.config.text_config.hidden_size, generator=generator)
    return PromptInputs(**{"before": before, "after": [7, 8], "frame_tokens": tokens, **fields})


@contextmanager
def lengths_read(model: D2VLM) -> Iterator[list[tuple[int, int]]]:
    """Rows and positions of each pass through the first layer, except single positions."""
    read: list[tuple[int, int]] = []

    def note(_: object, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[1] > 1:
            read.append((inputs[0].shape[0], inputs[0].shape[1]))

    hook = model.language_model.layers[0].register_forward_pre_hook(note)
    try:
        yield read
    finally:
        hook.remove()


def told(answers: list[Generation]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    return [(a.token_ids, [(e.first, e.last) for e in a.evidence]) for a in answers]


def test_the_prefix_is_computed_once_for_all_prompts(model: D2VLM) -> None:
    prompts = [prompt_of(model, frames, START) for frames in (5, 9, 30)]
    with lengths_read(model) as read:
        generate(model, prompts, SHORT)
        generate(model, prompts[:1], SHORT)
    # Padded to 32 and to 64 positions, 4 of which are cached.
    assert read == [(1, 4), (2, 28), (1, 60), (1, 28)]


@torch.inference_mode()
def test_a_batch_without_its_prefix_has_the_same_mask(model: D2VLM) -> None:
    batch = batch_prompts(model, [prompt_of(model, 2, START), prompt_of(model, 6, START)])
    rest = batch.after_prefix()
    assert (rest.skipped, rest.embeds.shape[1]) == (4, batch.embeds.shape[1] - 4)
    assert rest.visible().equal(batch.visible()[:, 4:])
    states = torch.randn(batch.embeds.shape)
    assert rest.at_end(states[:, 4:]).equal(batch.at_end(states))
    frames = batch.frame_mask
    assert rest.at_frames(states[:, 4:])[frames].equal(batch.at_frames(states)[frames])
    assert rest.after_prefix().visible().equal(rest.visible())


def test_prompts_with_different_prefixes_are_answered_as_alone(model: D2VLM) -> None:
    befores = [START, [5], [], START, [*START, 6]]
    prompts = [prompt_of(model, 4 + n, before) for n, before in enumerate(befores)]
    alone = [generate(copy.deepcopy(model), [prompt], SHORT)[0] for prompt in prompts]
    queue = GenerationQueue(model, BatchSize(3))
    tickets = [queue.add(prompt, SHORT) for prompt in prompts]
    ended = {}
    with lengths_read(model) as read:
        while len(queue):
            ended |= dict(queue.advance())
    assert [rows for rows, length in read if length == 32] == [1]  # the one without a start
    assert batch_prompts(model, prompts).prefix == ()
    found = [ended[ticket] for ticket in tickets]
    assert told(found) == told(alone)  # type: ignore[arg-type]
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one.prompt_curve, other.prompt_curve)  # type: ignore[union-attr]


def test_text_that_refers_to_frames_is_not_a_shared_prefix(model: D2VLM) -> None:
    evidence = model.config.evidence_token_id
    prompts = [
        prompt_of(model, 9, [17, evidence], spans=[span]) for span in ((0.0, 1.0), (5.0, 8.0))
    ]
    assert batch_prompts(model, prompts).prefix == ()
    with lengths_read(model) as read:
        one, other = generate(model, prompts, SHORT)
    assert read == [(2, 32)]
    assert not one.prompt_curve.equal(other.prompt_curve)


@pytest.mark.parametrize("replaced", [False, True])
def test_the_prefix_is_computed_again_when_weights_change(model: D2VLM, replaced: bool) -> None:
    prompt = prompt_of(model, 6, START)
    before = generate(model, [prompt], SHORT)[0]
    layer = model.language_model.layers[0].mlp.down_proj
    with torch.no_grad():
        if replaced:
            layer.weight = torch.nn.Parameter(layer.weight.detach() * -3)
        else:
            layer.weight.mul_(-3)
    fresh = copy.deepcopy(model)
    after = generate(model, [prompt], SHORT)[0]
    expected = generate(fresh, [prompt], SHORT)[0]
    assert after.prompt_curve.equal(expected.prompt_curve)
    assert not after.prompt_curve.equal(before.prompt_curve)


def test_few_prefixes_are_cached(model: D2VLM) -> None:
    def read_again(ids: list[int]) -> bool:
        with lengths_read(model) as read:
            shared_prefix(model, ids)
        return bool(read)

    for number in range(_MAX_PREFIXES):
        assert read_again([5, number])
    assert not read_again([5, 0])  # which makes it the one that was used last
    assert read_again([6, 6])
    assert read_again([5, 1])
    assert not read_again([5, 0])
    assert shared_prefix(model, []) is None
