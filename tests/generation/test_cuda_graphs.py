"""Recorded steps, with an imitation of CUDA graphs that repeats operations on the same memory."""

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch

import vidground.generation.cuda_graphs
from tests.helpers.graph_stand_in import Graphs
from tests.helpers.paths import CHECKPOINT
from tests.helpers.training_runs import tiny_model
from vidground.captioner import DenseCaptioner
from vidground.errors import InputError
from vidground.generation.batch_decoder import (
    BatchDecoder,
    borrow_decoder,
    give_back_decoder,
)
from vidground.generation.cuda_graphs import ReplayError, StepGraphs, StepInputs, StepOutputs
from vidground.generation.generation_queue import GenerationQueue, generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import BatchSettings, DecodingSettings


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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_recorded_steps_give_the_same_answers(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are added and removed, 3 of 4 recorded ones are used, and the memory grows."""
    model = D2VLM.from_pretrained(CHECKPOINT, attn_implementation=attention)
    prompts = make_prompts(model, 9, longest=300)
    caps = (5, 40, 12, 30, 3, 21, 8, 60, 17)
    settings = [DecodingSettings(max_new_tokens=cap) for cap in caps]
    expected = generate(model, prompts, settings)
    tape = Graphs()
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", tape)
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


def test_recordings_are_reused_until_the_weights_change(
    model: D2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Graphs()
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", tape)

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


def step_inputs(rows: int = 2, span: int = 3, value: float = 1.0) -> StepInputs:
    values = value * torch.arange(1, rows + 1, dtype=torch.float32)
    return StepInputs(
        values[:, None, None],
        torch.full((rows,), int(value)),
        values[:, None, None],
        values[:, None, None],
        torch.ones(rows, 1, 1, span, dtype=torch.bool),
    )


def double(inputs: StepInputs) -> StepOutputs:
    return (2 * inputs.embeds,)


def test_each_shape_is_recorded_once() -> None:
    tape = Graphs()
    graphs = StepGraphs(double, tape)
    for value in (1.0, 2.0, 3.0):
        for rows, span in ((1, 3), (2, 3), (2, 4)):
            inputs = step_inputs(rows, span, value)
            torch.testing.assert_close(graphs(inputs), double(inputs))
    assert (tape.recorded, tape.replayed) == (3, 6)
    graphs.forget()
    graphs(step_inputs())
    assert tape.recorded == 4


def test_a_recording_is_checked_with_other_inputs() -> None:
    tape = Graphs()
    graphs = StepGraphs(double, tape)
    for _ in range(3):
        torch.testing.assert_close(graphs(step_inputs()), double(step_inputs()))
    assert tape.replayed == 0
    graphs(step_inputs(value=2.0))
    assert tape.replayed == 1


def test_a_check_needs_finite_numbers() -> None:
    tape = Graphs()
    graphs = StepGraphs(double, tape)
    for value in (1.0, float("inf")):
        inputs = StepInputs(value * step_inputs().embeds, *step_inputs().tensors[1:])
        assert graphs(inputs)[0].equal(2 * inputs.embeds)
    tape._record = None  # type: ignore[method-assign, assignment]  # nothing is recorded anew
    inputs = step_inputs(value=3.0)
    graphs._compute = lambda _: (torch.zeros_like(inputs.embeds),)
    with pytest.raises(ReplayError):
        graphs(inputs)


def test_a_step_does_not_overwrite_earlier_inputs_and_outputs() -> None:
    graphs = StepGraphs(double, Graphs())
    for value in (1.0, 2.0):
        graphs(step_inputs(value=value))
    first, second = step_inputs(value=3.0), step_inputs(value=4.0)
    outputs = [graphs(inputs)[0] for inputs in (first, second)]
    graphs(step_inputs(value=5.0))
    for inputs, output, value in zip((first, second), outputs, (3.0, 4.0), strict=True):
        assert inputs.embeds.equal(step_inputs(value=value).embeds)
        assert output.equal(double(step_inputs(value=value))[0])


class Step:
    """A step with a state between calls that a recording cannot reproduce."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._calls = 0
        self._memory = torch.zeros(1)
        self._seen = step_inputs()

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        if self._fault == "a number of the host":
            return (inputs.embeds * self._calls,)
        if self._fault == "other memory":
            return (inputs.embeds + self._memory,)
        if self._fault == "inputs of before":
            return (2 * self._seen.embeds,)
        if self._fault == "a copy to the host":
            return (inputs.embeds * float(inputs.positions.max()),)
        return double(inputs)

    def next(self, inputs: StepInputs) -> None:
        """What happens between two steps."""
        self._calls += 1
        self._memory = torch.full((1,), float(self._calls))
        self._seen = inputs


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("a number of the host", "other numbers"),
        ("other memory", "other numbers"),
        ("inputs of before", "other numbers"),
        ("a copy to the host", "operation not permitted when stream is capturing"),
        ("none", ""),
    ],
)
def test_a_step_that_cannot_be_recorded_is_computed_directly(
    fault: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = Step(fault)
    graphs = StepGraphs(step, Graphs())
    wrong: list[int] = []
    with caplog.at_level(logging.WARNING):
        for number in range(1, 5):
            inputs = step_inputs(value=number)
            step.next(inputs)
            try:
                found = graphs(inputs)
            except ReplayError:
                wrong.append(number)
                found = graphs(inputs)
            torch.testing.assert_close(found, step(inputs))
    assert wrong == ([2] if told == "other numbers" else [])
    assert len(caplog.records) == bool(told)
    assert told in caplog.text


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_replay_that_does_not_write_an_output_is_noticed(wrong: int) -> None:
    """Even if the old content of the output happens to be right."""

    def constant(_: StepInputs) -> StepOutputs:
        return torch.ones(2), torch.ones(3)

    def record(run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        outputs = run()

        def replay() -> None:
            outputs[1 - wrong].fill_(1.0)

        return replay, outputs

    graphs = StepGraphs(constant, lambda: record)
    graphs(step_inputs())
    with pytest.raises(ReplayError, match="other numbers than the step itself"):
        graphs(step_inputs(value=2.0))


@pytest.mark.parametrize("writes", [False, True])
def test_a_wrong_replay_does_not_change_answers(
    model: D2VLM, writes: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does nothing, or overwrites the cache with the rows' past."""

    class Wrong(Graphs):
        def _record(self, run: Callable[[], StepOutputs]) -> Any:
            replay, outputs = super()._record(run)

            def go_wrong() -> None:
                replay()
                for decoder in lent:
                    for keys in decoder._cache._keys:
                        assert keys is not None
                        keys.fill_(3.0)

            return go_wrong if writes else lambda: None, outputs

    lent: list[BatchDecoder] = []
    step = BatchDecoder.step
    monkeypatch.setattr(BatchDecoder, "step", lambda d, e: (lent.append(d), step(d, e))[1])
    monkeypatch.setattr("vidground.generation.cuda_graphs.CudaRecorder", Wrong())
    prompts, settings = make_prompts(model, 3), DecodingSettings(max_new_tokens=12)
    expected = [generate(model, [prompt], settings)[0].token_ids for prompt in prompts]
    lent.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            size = BatchSize(3)
            queue = GenerationQueue(model, size, graphs=True)
            tickets = [queue.add(prompt, settings) for prompt in prompts]
            ended: dict[int, Any] = {}
            while len(queue):
                ended |= dict(queue.advance())
            assert [ended[ticket].token_ids for ticket in tickets] == expected
            assert size.now == 3
    assert len(caplog.records) == 1


def test_running_out_of_memory_in_a_recording_is_reported() -> None:
    def record(_: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken_off(_: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:  # as leaving a recording does
            raise RuntimeError("operation failed due to a previous error during capture")

    for recorder in (record, broken_off):
        with pytest.raises(torch.OutOfMemoryError):
            StepGraphs(double, lambda recorder=recorder: recorder)(step_inputs())  # type: ignore[misc]


class Cuda:
    """Records the calls of `CudaRecorder` to `torch.cuda`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = 0
        self.pools = 0
        self.recordings: list[tuple[Any, Any]] = []  # the pool, and the device of the stream
        vidground.generation.cuda_graphs._side_stream.cache_clear()
        for name in ("current_device", "current_stream", "graph_pool_handle", "graph", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "Stream", CudaStream)

    def replay(self) -> None:
        pass

    def current_device(self) -> int:
        return self.device

    def current_stream(self) -> "CudaStream":
        return CudaStream(self.device)

    def graph_pool_handle(self) -> int:
        self.pools += 1
        return self.pools

    def stream(self, _: object) -> AbstractContextManager[None]:
        return nullcontext()

    def graph(self, _: object, *, pool: int, stream: "CudaStream", **__: object) -> Any:
        self.recordings.append((pool, stream.device))
        return nullcontext()


class CudaStream:
    def __init__(self, device: int) -> None:
        self.device = device

    def wait_stream(self, other: "CudaStream") -> None:
        assert other.device == self.device


def test_each_device_has_a_stream_and_each_decoder_a_memory_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch)
    models = [StepGraphs(double), StepGraphs(double)]
    for cuda.device, graphs in enumerate(models):
        for rows in (1, 2):
            graphs(step_inputs(rows))
    cuda.device = 0
    models[0].forget()
    models[0](step_inputs())
    # CUDA does not accept a pool whose graphs are all gone.
    assert cuda.recordings == [(1, 0), (1, 0), (2, 1), (2, 1), (3, 0)]
    monkeypatch.undo()
    vidground.generation.cuda_graphs._side_stream.cache_clear()


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(InputError, match="graphs are CUDA graphs and the model is on cpu"):
        DenseCaptioner(tiny_model(), batch=BatchSettings(graphs=True))


def test_a_step_can_be_compiled(model: D2VLM) -> None:
    """It has neither branches on values nor copies to the host, as recording requires, too."""
    (prompt,) = make_prompts(model, 1)
    expected = generate(model, [prompt], DecodingSettings(max_new_tokens=12))[0].token_ids
    decoder = borrow_decoder(model, 1)
    give_back_decoder(decoder)
    assert decoder._graphs is not None
    compiled = torch.compile(
        decoder._graphs._compute, backend="eager", fullgraph=True, dynamic=False
    )
    decoder._graphs = StepGraphs(compiled)
    decoder._graphs._works = False  # which leaves the compiled step
    queue = GenerationQueue(model, BatchSize(1), graphs=True)
    queue.add(prompt, DecodingSettings(max_new_tokens=12))
    while len(queue):
        ended = queue.advance()
    assert [generation.token_ids for _, generation in ended] == [expected]
