"""The decode loop's properties, on the small random checkpoint."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.nearly import ROUNDING
from tests.helpers.paths import CHECKPOINT
from vidground.errors import InputError
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.generation_queue import (
    Generation,
    GenerationQueue,
    generate,
    generate_each,
)
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

pytestmark = pytest.mark.numbers


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


def make_prompt(model: D2VLM, frames: int, seed: int = 0, **fields: object) -> PromptInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(frames, model.config.text_config.hidden_size, generator=generator)
    before = [17, 204, 99, 31]  # the same in all, so that they are read together
    after = torch.randint(5, 300, (3 + seed,), generator=generator).tolist()
    return PromptInputs(**{"before": before, "after": after, "frame_tokens": tokens, **fields})


def test_the_answer_ends_with_its_end_token(model: D2VLM) -> None:
    """A model that prefers the end token stops there; others continue to the maximum length."""
    prompt = make_prompt(model, 4)
    (long,) = generate(model, [prompt], DecodingSettings(max_new_tokens=6))
    assert long.truncated
    assert len(long.token_ids) == 6
    stop = long.token_ids[2]
    original = model.config.turn_end_token_id
    model.config.turn_end_token_id = stop
    try:
        (short,) = generate(model, [prompt], DecodingSettings(max_new_tokens=6))
    finally:
        model.config.turn_end_token_id = original
    assert short.token_ids == long.token_ids[: long.token_ids.index(stop) + 1]
    assert not short.truncated


def test_a_looping_row_ends_and_the_others_continue(model: D2VLM) -> None:
    """With a penalty below 1, which favours repetitions, this model repeats itself forever."""
    prompts = [make_prompt(model, 6, seed=0), make_prompt(model, 5, seed=1)]
    stuck = DecodingSettings(max_new_tokens=80, repetition_penalty=0.01, loop_tokens=24)
    free = DecodingSettings(max_new_tokens=80, repetition_penalty=0.01, loop_tokens=0)
    (whole,) = generate(model, prompts[:1], free)
    assert (len(whole.token_ids), whole.truncated, whole.looped) == (80, True, False)
    caught, other = generate(model, prompts, [stuck, free])
    assert caught.token_ids == whole.token_ids[:32]  # where loops are first looked for
    assert (caught.truncated, caught.looped) == (True, True)
    assert all(evidence.position < 32 for evidence in caught.evidence)
    assert (len(other.token_ids), other.looped) == (80, False)
    assert generate(model, prompts[:1], stuck)[0].token_ids == caught.token_ids


@pytest.mark.parametrize("tokens", [-1, 1, 15])
def test_loop_tokens_must_hold_the_repetitions(tokens: int) -> None:
    with pytest.raises(InputError, match=r"loop_tokens is .* at least 16"):
        DecodingSettings(loop_tokens=tokens)


def test_the_context_limits_the_answer(model: D2VLM) -> None:
    context = model.config.text_config.max_position_embeddings
    nearly_full = make_prompt(model, context - 7 - 5)
    (answer,) = generate(model, [nearly_full], DecodingSettings(max_new_tokens=50))
    assert len(answer.token_ids) == 5
    assert answer.truncated
    with pytest.raises(InputError, match=r"no room for an answer.*shorter window"):
        generate(model, [make_prompt(model, context)], DecodingSettings())


def test_random_tokens_depend_on_the_seed_and_not_on_the_batch(model: D2VLM) -> None:
    prompts = [make_prompt(model, 3 + seed, seed=seed) for seed in range(3)]
    warm = DecodingSettings(max_new_tokens=12, temperature=1.0, seed=5)
    together = [answer.token_ids for answer in generate(model, prompts, warm)]
    alone = [generate(model, [prompt], warm)[0].token_ids for prompt in prompts]
    assert together == alone
    other = DecodingSettings(max_new_tokens=12, temperature=1.0, seed=6)
    assert [answer.token_ids for answer in generate(model, prompts, other)] != together


@given(
    frames=st.lists(st.integers(1, 40), min_size=1, max_size=9),
    caps=st.lists(st.integers(1, 14), min_size=9, max_size=9),
    rows=st.integers(1, 5),
    warm=st.booleans(),
    penalty=st.sampled_from([1.0, 1.3]),
    stop=st.integers(0, 8),
)
@settings(max_examples=25)
def test_refilled_rows_answer_as_if_alone(
    model: D2VLM,
    frames: list[int],
    caps: list[int],
    rows: int,
    warm: bool,
    penalty: float,
    stop: int,
) -> None:
    """Prompts of any lengths and caps share few rows; some answers end by themselves."""
    prompts = [make_prompt(model, count, seed=seed) for seed, count in enumerate(frames)]
    per_row = [
        DecodingSettings(
            max_new_tokens=cap, temperature=0.7 * warm, seed=cap, repetition_penalty=penalty
        )
        for cap in caps[: len(prompts)]
    ]
    original = model.config.turn_end_token_id
    first = generate(model, prompts[:1], DecodingSettings(max_new_tokens=9))[0].token_ids
    model.config.turn_end_token_id = first[min(stop, len(first) - 1)]  # so that some end there
    try:
        alone = [generate(model, [p], s)[0] for p, s in zip(prompts, per_row, strict=True)]
        queue = GenerationQueue(model, BatchSize(rows))
        tickets = [queue.add(p, s) for p, s in zip(prompts, per_row, strict=True)]
        ended = {}
        while len(queue):
            ended |= dict(queue.advance())
    finally:
        model.config.turn_end_token_id = original
    for one, ticket in zip(alone, tickets, strict=True):
        assert_same(one, ended[ticket])


def assert_same(one: Generation, other: object) -> None:
    assert isinstance(other, Generation)
    assert (one.token_ids, one.truncated) == (other.token_ids, other.truncated)
    spans = [[(e.position, e.first, e.last) for e in g.evidence] for g in (one, other)]
    assert spans[0] == spans[1]
    for curve, same in zip(
        [one.prompt_curve, *(e.curve for e in one.evidence)],
        [other.prompt_curve, *(e.curve for e in other.evidence)],
        strict=True,
    ):
        torch.testing.assert_close(curve, same, rtol=0, atol=ROUNDING)


def test_answers_keep_the_order_of_prompts_which_are_taken_when_there_is_room(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    rows: list[int] = []
    step = BatchDecoder.step

    def counted(decoder: BatchDecoder, embeds: torch.Tensor) -> None:
        rows.append(len(embeds))
        step(decoder, embeds)

    monkeypatch.setattr(BatchDecoder, "step", counted)

    def prompts() -> Iterator[PromptInputs]:
        for seed in range(7):
            taken.append(seed)
            yield make_prompt(model, 3 + seed, seed=seed)

    settings = DecodingSettings(max_new_tokens=6)
    expected = [generate(model, [make_prompt(model, 3 + s, seed=s)], settings)[0] for s in range(7)]
    each = generate_each(model, prompts(), settings, BatchSize(2))
    first = next(each)
    assert taken == [0, 1]
    for one, other in zip(expected, [first, *each], strict=True):
        assert_same(one, other)
    assert max(rows) == 2


def test_the_first_prompt_is_answered_first(model: D2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts have one length, so that only their order matters; also after memory ran out."""
    queue = GenerationQueue(model, BatchSize(3))
    short = DecodingSettings(max_new_tokens=3)
    tickets = [queue.add(make_prompt(model, 4), short) for _ in range(5)]
    step = BatchDecoder.step
    rows: list[int] = []

    def tight(decoder: BatchDecoder, embeds: torch.Tensor) -> None:
        rows.append(len(embeds))
        if len(rows) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(decoder, embeds)

    monkeypatch.setattr(BatchDecoder, "step", tight)
    ended: list[int] = []
    while len(queue):
        ended += [ticket for ticket, _ in queue.advance()]
    assert ended == tickets
    assert rows == [3, 3, *[1] * 10]


def test_several_tokens_per_call_give_the_same_answers(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU rows are checked every few steps: tokens after the end of an answer are dropped."""
    prompts = [make_prompt(model, 3 + seed, seed=seed) for seed in range(4)]
    per_row = [DecodingSettings(max_new_tokens=cap) for cap in (1, 9, 4, 17)]
    expected = generate(model, prompts, per_row)
    decode = GenerationQueue._decode
    monkeypatch.setattr(GenerationQueue, "_decode", lambda queue, _: decode(queue, 5))
    for one, other in zip(expected, generate(model, prompts, per_row), strict=True):
        assert_same(one, other)
