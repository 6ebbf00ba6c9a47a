"""Recorded steps, with a recorder that needs no GPU: what is replayed works on the same memory."""

import copy
import logging
from collections.abc import Callable

import pytest
import torch

from tests.helpers.paths import CHECKPOINT
from tests.helpers.training_runs import tiny_model
from vidground.captioner import DenseCaptioner
from vidground.errors import InputError
from vidground.generation.batch_decoder import Decoder, borrow_decoder, give_back_decoder
from vidground.generation.cuda_graphs import StepGraphs, StepInputs, StepOutputs
from vidground.generation.generation_queue import GenerationQueue, generate
from vidground.generation.prompt_batch import PromptInputs, batch_prompts
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import BatchSettings, DecodingSettings


@pytest.fixture
def model() -> D2VLM:
    return D2VLM.from_pretrained(CHECKPOINT)


class Tape:
    """Records by keeping the function; replaying writes to the outputs of the recording."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        self.recorded += 1
        outputs = tuple(output.clone() for output in run())

        def replay() -> None:
            self.replayed += 1
            for kept, new in zip(outputs, run(), strict=True):
                kept.copy_(new)

        return replay, outputs


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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_recorded_steps_give_the_same_answers(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come and go, of which there are 3 where 4 are recorded, and memory that grows."""
    model = D2VLM.from_pretrained(CHECKPOINT, attn_implementation=attention)
    prompts = make_prompts(model, 9, longest=300)
    caps = (5, 40, 12, 30, 3, 21, 8, 60, 17)
    settings = [DecodingSettings(max_new_tokens=cap) for cap in caps]
    expected = generate(model, prompts, settings)
    tape = Tape()
    monkeypatch.setattr("vidground.generation.cuda_graphs.record_cuda", tape)
    queue = GenerationQueue(model, BatchSize(3), graphs=True)
    for prompt, own in zip(prompts, settings, strict=True):
        queue.add(prompt, own)
    found = {}
    while len(queue):
        found |= dict(queue.advance())
    for ticket, one in enumerate(expected, 1):
        other = found[ticket]
        assert not isinstance(other, Exception)
        assert one.token_ids == other.token_ids
        assert [(e.first, e.last) for e in one.evidence] == [
            (e.first, e.last) for e in other.evidence
        ]
    assert 3 <= tape.recorded <= 12
    assert tape.replayed > 4 * tape.recorded


def test_recordings_are_kept_for_the_next_answers_and_dropped_with_the_weights(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape()
    monkeypatch.setattr("vidground.generation.cuda_graphs.record_cuda", tape)

    def answer() -> list[int]:
        queue = GenerationQueue(model, BatchSize(1), graphs=True)
        queue.add(make_prompts(model, 1)[0], DecodingSettings(max_new_tokens=9))
        while len(queue):
            ended = queue.advance()
        (generation,) = [generation for _, generation in ended]
        assert not isinstance(generation, Exception)
        return generation.token_ids

    first = answer()
    assert tape.recorded == 1
    assert answer() == first
    assert tape.recorded == 1
    assert copy.deepcopy(model).config == model.config  # recordings are not copied
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    changed = answer()
    assert tape.recorded == 2
    assert changed != first


def test_steps_are_recorded_again_once_the_cache_lies_elsewhere(model: D2VLM) -> None:
    tape = Tape()
    decoder = Decoder(model, graphs=True, record=tape)
    one, two = make_prompts(model, 2)
    embeds = torch.zeros(1, model.config.text_config.hidden_size)
    with torch.inference_mode():
        decoder.add(batch_prompts(model, [one]))
        decoder.step(embeds)
        decoder.step(embeds)
        assert tape.recorded == 1
        decoder.add(batch_prompts(model, [two]))  # for which there was no room
        decoder.remove(1)
        decoder.step(embeds)
    assert tape.recorded == 2


def test_a_decoder_is_lent_to_one_at_a_time(model: D2VLM) -> None:
    one, two = borrow_decoder(model), borrow_decoder(model)
    assert one is not two
    give_back_decoder(one)
    assert borrow_decoder(model) is one


def step_inputs(rows: int = 2, span: int = 3) -> StepInputs:
    values = torch.arange(rows, dtype=torch.float32)
    return StepInputs(
        values[:, None, None],
        torch.zeros(rows, dtype=torch.long),
        values[:, None, None],
        values[:, None, None],
        torch.ones(rows, 1, 1, span, dtype=torch.bool),
    )


def double(inputs: StepInputs) -> StepOutputs:
    return (2 * inputs.embeds,)


def test_each_shape_is_recorded_once() -> None:
    tape = Tape()
    graphs = StepGraphs(double, tape)
    for _ in range(3):
        for rows, span in ((1, 3), (2, 3), (2, 4)):
            inputs = step_inputs(rows, span)
            torch.testing.assert_close(graphs(inputs), double(inputs))
    assert tape.recorded == 3
    graphs.forget()
    graphs(step_inputs())
    assert tape.recorded == 4


def test_a_step_overwrites_neither_inputs_nor_outputs_of_those_before() -> None:
    graphs = StepGraphs(double, Tape())
    recorded, replayed = step_inputs(), step_inputs()
    outputs = [graphs(inputs)[0] for inputs in (recorded, replayed)]
    graphs(StepInputs(*(5 * tensor for tensor in step_inputs().tensors)))
    for inputs, output in zip((recorded, replayed), outputs, strict=True):
        assert inputs.embeds.equal(step_inputs().embeds)
        assert output.equal(double(step_inputs())[0])


@pytest.mark.parametrize("fault", ["wrong", "fails"])
def test_a_recording_that_does_not_work_is_told_of_and_done_without(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    def record(run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        if fault == "fails":
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: None, tuple(torch.zeros_like(output) for output in run())

    graphs = StepGraphs(double, record)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(graphs(step_inputs()), double(step_inputs()))
    assert len(caplog.records) == 1
    assert "not replayed" in caplog.text


@pytest.mark.parametrize("wrong", [0, 1])
def test_every_output_of_a_recording_is_compared(wrong: int) -> None:
    def twice(inputs: StepInputs) -> StepOutputs:
        return (*double(inputs), *double(inputs))

    def record(run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        outputs = [output.clone() for output in run()]
        outputs[wrong].zero_()
        return lambda: None, tuple(outputs)

    torch.testing.assert_close(StepGraphs(twice, record)(step_inputs()), twice(step_inputs()))


def test_a_step_that_runs_out_of_memory_says_so() -> None:
    def record(_: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        StepGraphs(double, record)(step_inputs())


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(InputError, match="graphs are CUDA graphs and the model is on cpu"):
        DenseCaptioner(tiny_model(), batch=BatchSettings(graphs=True))


def test_a_step_can_be_compiled(model: D2VLM) -> None:
    """It has neither branches on values nor copies to the host, which recording needs as well."""
    (prompt,) = make_prompts(model, 1)
    expected = generate(model, [prompt], DecodingSettings(max_new_tokens=12))[0].token_ids
    decoder = borrow_decoder(model)
    give_back_decoder(decoder)
    compiled = torch.compile(decoder._computed, backend="eager", fullgraph=True, dynamic=False)
    decoder._graphs = StepGraphs(compiled, Tape())
    queue = GenerationQueue(model, BatchSize(1), graphs=True)
    queue.add(prompt, DecodingSettings(max_new_tokens=12))
    while len(queue):
        ended = queue.advance()
    assert [generation.token_ids for _, generation in ended] == [expected]
