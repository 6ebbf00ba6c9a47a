"""Requests of several threads to one model: their order, their batches, and their errors."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.training_runs import tiny_model
from vidground.errors import InputError
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.model_thread import AbandonedError, ModelThread
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings

SOON_S = 20.0
FEW = DecodingSettings(max_new_tokens=2)


class WaitingEncoder:
    """Encodes frames to themselves, and compresses them to the first ids of the questions.

    `served` lists the calls in order; every call waits until `go` is set.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.served: list[tuple[str, list[float]]] = []
        self.go = threading.Event()
        self.called = threading.Event()

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        return self._serve("encode", pixels)

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        self._serve("compress", patches)
        firsts = torch.tensor([float(question[0]) for question in questions])
        return firsts.reshape(1, -1, 1).expand(len(patches), -1, -1)

    def _serve(self, what: str, values: Tensor) -> Tensor:
        self.called.set()
        assert self.go.wait(SOON_S)
        self.served.append((what, values[:, 0].tolist()))
        return values


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return tiny_model()


@pytest.fixture
def encoder() -> WaitingEncoder:
    return WaitingEncoder()


@pytest.fixture
def shared(model: D2VLM, encoder: WaitingEncoder) -> Iterator[ModelThread]:
    shared = ModelThread(model, encoder, rows=BatchSize(2), frames=BatchSize(4))
    yield shared
    encoder.go.set()
    shared.close()


def frames(value: float, count: int = 1) -> Tensor:
    return torch.full((count, 1), value)


def begun(request: Callable[[], Any]) -> Future[Any]:
    """Send a request in a thread of its own, which ends with the program if there is no reply."""
    future: Future[Any] = Future()

    def ask() -> None:
        try:
            future.set_result(request())
        except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
            future.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return future


def ask_at_once(
    shared: ModelThread, encoder: WaitingEncoder, *requests: Callable[[], Tensor]
) -> list[Future[Tensor]]:
    """Keep the model busy until all requests wait, then let it serve them."""
    first = begun(lambda: shared.client(0).encode_pixels(frames(0)))
    assert encoder.called.wait(SOON_S)
    futures = []
    for request in requests:
        futures.append(begun(request))
        while shared._requests.qsize() < len(futures):
            time.sleep(0.001)
    encoder.go.set()
    first.result(SOON_S)
    for future in futures:
        future.exception(SOON_S)
    return futures


def test_compression_comes_first_and_then_the_first_video(
    shared: ModelThread, encoder: WaitingEncoder
) -> None:
    def encode(number: int) -> Callable[[], Tensor]:
        return lambda: shared.client(number).encode_pixels(frames(number, 3))

    def compress() -> Tensor:
        return shared.client(9).compress_each(frames(9), [[5]])

    ask_at_once(shared, encoder, encode(3), encode(1), encode(2), compress)
    order = [(what, values[0]) for what, values in encoder.served[1:]]
    assert order == [("compress", 9), ("encode", 1), ("encode", 2), ("encode", 3)]


def test_results_of_a_batch_go_to_the_requests(
    shared: ModelThread, encoder: WaitingEncoder
) -> None:
    one, three = shared.client(1), shared.client(2)
    found = ask_at_once(
        shared,
        encoder,
        lambda: one.encode_pixels(frames(1)),
        lambda: three.encode_pixels(frames(3, 3)),
    )
    assert [future.result().tolist() for future in found] == [[[1]], [[3]] * 3]
    assert encoder.served[1:] == [("encode", [1, 3, 3, 3])]  # 4 frames, as many as go at once


def test_requests_with_different_questions_do_not_share_a_batch(
    shared: ModelThread, encoder: WaitingEncoder
) -> None:
    def compress(number: int, *questions: list[int]) -> Callable[[], Tensor]:
        return lambda: shared.client(number).compress_each(frames(number), questions)

    asked = [([5],), ([6],), ([5],), ([5], [6])]
    found = ask_at_once(shared, encoder, *(compress(n, *each) for n, each in enumerate(asked, 1)))
    assert [future.result().flatten().tolist() for future in found] == [[5], [6], [5], [5, 6]]
    assert encoder.served[1:] == [("compress", [1, 3]), ("compress", [4]), ("compress", [2])]


def test_an_error_is_raised_in_all_threads_of_the_batch(
    shared: ModelThread, encoder: WaitingEncoder
) -> None:
    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("no such kernel")

    def request(number: int) -> Callable[[], Tensor]:
        return lambda: shared.client(number).encode_pixels(frames(number))

    seen = encoder._serve
    encoder._serve = lambda what, values: broken(values) if values.sum() else seen(what, values)  # type: ignore[method-assign]
    for future in ask_at_once(shared, encoder, request(1), request(2)):
        with pytest.raises(RuntimeError, match="no such kernel"):
            future.result()
    assert shared.client(3).encode_pixels(frames(0)).tolist() == [[0]]  # and the model goes on


def test_an_invalid_prompt_raises_in_the_thread_that_asked(shared: ModelThread) -> None:
    empty = PromptInputs([7], [8], torch.zeros(0, 32))
    error = begun(lambda: next(shared.client(1).generate_each([empty], FEW))).exception(SOON_S)
    assert isinstance(error, InputError)
    assert "0 frames" in str(error)


def test_prompts_are_taken_when_there_is_room_and_answered_in_order(shared: ModelThread) -> None:
    taken: list[int] = []
    through: list[int] = []

    def prompts() -> Iterator[PromptInputs]:
        for number in range(6):
            taken.append(number)
            yield PromptInputs([7], [8] * (1 + number), torch.ones(2 + number, 32))

    answers = shared.client(1).generate_each(
        prompts(), FEW, after_last=lambda: through.append(len(taken))
    )
    lengths = [len(answer.prompt_curve) for answer in answers]
    assert lengths == [2, 3, 4, 5, 6, 7]
    assert through == [6]


@pytest.mark.parametrize("recording", [False, True])
def test_abandoned_work_ends_before_the_next_layer(
    model: D2VLM,
    shared: ModelThread,
    encoder: WaitingEncoder,
    recording: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Except while a CUDA graph is captured, which is finished first."""
    done: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: recording)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: len(done) < 10)
    pixels = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    model.encode_frames(pixels)

    def endless(_: Tensor) -> Tensor:
        encoder.called.set()
        assert encoder.go.wait(SOON_S)
        while True:
            model.encode_frames(pixels)
            done.append(len(done))

    encoder.encode_pixels = endless  # type: ignore[method-assign]
    waits = begun(lambda: shared.client(1).encode_pixels(frames(0)))
    assert encoder.called.wait(SOON_S)
    closing = threading.Thread(target=shared.close, daemon=True)
    closing.start()
    while not shared._abandoned.is_set():
        time.sleep(0.001)
    encoder.go.set()
    closing.join(SOON_S)
    assert not closing.is_alive()
    assert isinstance(waits.exception(SOON_S), AbandonedError)
    assert len(done) == (10 if recording else 0)
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_requests_are_abandoned_when_the_model_thread_is_closed(
    shared: ModelThread, encoder: WaitingEncoder
) -> None:
    def encode(number: int) -> Callable[[], Tensor]:
        return lambda: shared.client(number).encode_pixels(frames(0))

    begun(encode(1))
    assert encoder.called.wait(SOON_S)
    waits = begun(encode(2))
    while not shared._requests.qsize():
        time.sleep(0.001)
    closing = threading.Thread(target=shared.close, daemon=True)
    closing.start()
    while shared._ended is None:
        time.sleep(0.001)
    encoder.go.set()
    closing.join(SOON_S)
    assert isinstance(waits.exception(SOON_S), AbandonedError)
    assert isinstance(begun(encode(3)).exception(SOON_S), AbandonedError)
