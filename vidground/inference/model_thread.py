"""One thread that runs the model for the threads of several videos, in shared batches.

Frames of different videos are encoded together, and their prompts decoded together. Knows neither
videos nor files.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

from vidground.devices import to_device
from vidground.features.frame_encoding import PixelEncoder
from vidground.generation.generation_queue import Generation, GenerationQueue
from vidground.generation.prompt_batch import PromptInputs
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.settings import DecodingSettings


class AbandonedError(BaseException):
    """The work is no longer wanted.

    Not an Exception, so that nothing handles it as a failure.
    """


@contextmanager
def _abandonable(model: D2VLM, abandoned: threading.Event) -> Iterator[None]:
    """Raise AbandonedError before the model's next layer in this thread once the event is set.

    On a CPU a batch takes minutes, so checking between batches is not enough. A CUDA graph that is
    being captured is finished first: an aborted capture can leave torch unusable.
    """
    thread = threading.get_ident()

    def check(*_: object) -> None:
        if abandoned.is_set() and threading.get_ident() == thread and not _is_capturing():
            raise AbandonedError

    layers = [part for part in model.modules() if type(part).__name__ in model._no_split_modules]
    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_capturing() -> bool:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False  # without CUDA the next call raises
    return torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True, eq=False)
class _FrameRequest:
    """Frames to encode, or patch features to compress with questions.

    Attributes:
        number: of the client that asks.
        kind: requests of the same kind can share a batch; the smallest kind is served first.
        values: pixels (N, 3, S, S) or patch features (N, patches, width).
        questions: token ids of Q questions; None to encode pixels.
        reply: patch features (N, patches, width) or frame tokens (N, Q, H).
    """

    number: int
    kind: tuple[Any, ...]
    values: Tensor
    questions: Sequence[Sequence[int]] | None = None
    reply: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _PromptRequest:
    """A prompt to decode.

    Attributes:
        prompt: the prompt.
        settings: how its answer is decoded.
        reply: a future of the answer, set once the generation queue has taken the prompt.
    """

    prompt: PromptInputs
    settings: DecodingSettings
    reply: Future[Any] = field(default_factory=Future)


class ModelThread:
    """The thread that runs the model, and the queue of requests to it.

    Args:
        model: generates the answers.
        encoder: encodes frames, in batches of any size.
        rows: maximum number of prompts decoded at once.
        frames: maximum number of frames encoded at once.
        graphs: see `GenerationQueue`.
    """

    def __init__(
        self,
        model: D2VLM,
        encoder: PixelEncoder,
        *,
        rows: BatchSize,
        frames: BatchSize,
        graphs: bool | None = None,
    ) -> None:
        self._encoder = encoder
        self._frames = frames
        self._rows = rows
        self._new_queue = partial(GenerationQueue, model, rows, graphs=graphs)
        self._generation = self._new_queue()
        self._requests: SimpleQueue[_FrameRequest | _PromptRequest | None] = SimpleQueue()
        self._ended: BaseException | None = None  # why no more requests are served
        self._model = model
        self._abandoned = threading.Event()
        self._closing = threading.Lock()
        self._frame_requests: list[_FrameRequest] = []
        self._prompt_requests: deque[_PromptRequest] = deque()
        self._answers: dict[int, Future[Generation]] = {}  # by ticket of the generation queue
        self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
        self._thread.start()

    def client(self, number: int) -> ModelThreadClient:
        """Return the interface of one video's thread.

        Args:
            number: clients with lower numbers are served first.
        """
        return ModelThreadClient(self, self._encoder, number)

    def ask(self, request: _FrameRequest | _PromptRequest) -> Any:
        """Send a request and wait for its reply.

        Raises:
            AbandonedError: the model thread has been closed.
        """
        with self._closing:
            if self._ended is not None:
                raise self._ended
            self._requests.put(request)
        return request.reply.result()

    def close(self) -> None:
        """Abandon the work in progress and every request."""
        self._end(AbandonedError())
        self._abandoned.set()
        self._requests.put(None)
        self._thread.join()
        self._fail_all()

    def _end(self, error: BaseException) -> None:
        with self._closing:
            self._ended = self._ended or error

    def _serve(self) -> None:
        try:
            with _abandonable(self._model, self._abandoned):
                while self._ended is None:
                    self._receive(wait=not (self._frame_requests or len(self._generation)))
                    self._admit_prompts()
                    if self._frame_requests:
                        self._process_frames()
                    elif len(self._generation):
                        self._advance()
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits
            self._end(error)
            self._fail_all()

    def _receive(self, *, wait: bool) -> None:
        """Take the requests that have arrived.

        Args:
            wait: for a request if there is none.
        """
        while True:
            try:
                request = self._requests.get(block=wait)
            except Empty:
                return
            wait = False
            if isinstance(request, _FrameRequest):
                self._frame_requests.append(request)
            elif request is not None:
                self._prompt_requests.append(request)

    def _admit_prompts(self) -> None:
        """Pass prompts to the generation queue, up to twice the number decoded at once."""
        while self._prompt_requests and len(self._generation) < 2 * self._rows.now:
            request = self._prompt_requests.popleft()
            try:
                ticket = self._generation.add(request.prompt, request.settings)
            except Exception as error:  # noqa: BLE001 - raised in the thread that asked
                request.reply.set_exception(error)
            else:
                answer = self._answers[ticket] = Future()
                request.reply.set_result(answer)

    def _advance(self) -> None:
        """Decode some tokens and deliver the answers that have ended."""
        try:
            answers = self._generation.advance()
        except Exception as error:  # noqa: BLE001 - raised in the threads that wait for an answer
            # It is unknown which prompt caused it and what state the queue is in, so all prompts
            # in it fail, and later ones go to a new queue.
            for future in self._answers.values():
                _fail(future, error)
            self._answers.clear()
            self._generation = self._new_queue()
            return
        for ticket, answer in answers:
            future = self._answers.pop(ticket)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    @torch.inference_mode()
    def _process_frames(self) -> None:
        """Encode or compress one batch of frames, those of the first videos first."""
        self._frame_requests.sort(key=lambda request: (request.kind, request.number))
        kind = self._frame_requests[0].kind
        batch: list[_FrameRequest] = []
        for request in [request for request in self._frame_requests if request.kind == kind]:
            if batch and sum(len(r.values) for r in [*batch, request]) > self._frames.now:
                break
            batch.append(request)
        self._frame_requests = [r for r in self._frame_requests if r not in batch]
        try:
            result = self._compute(batch)
            parts = torch.split(result, [len(request.values) for request in batch])
        except BaseException as error:
            for request in batch:
                request.reply.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for request, part in zip(batch, parts, strict=True):
            request.reply.set_result(part)

    def _compute(self, batch: Sequence[_FrameRequest]) -> Tensor:
        device = self._encoder.device  # pixels and cached features are in main memory
        values = torch.cat([to_device(request.values, device) for request in batch])
        questions = batch[0].questions
        if questions is None:
            return self._encoder.encode_pixels(values)
        return self._encoder.compress_each(values, questions)

    def _fail_all(self) -> None:
        """Raise the error that ended this thread in every thread that waits for a reply."""
        error = self._ended or AbandonedError()
        while True:
            try:
                request = self._requests.get(block=False)
            except Empty:
                break
            if request is not None:
                _fail(request.reply, error)
        replies = [request.reply for request in self._frame_requests]
        replies += [request.reply for request in self._prompt_requests]
        for reply in (*replies, *self._answers.values()):
            _fail(reply, error)


class ModelThreadClient:
    """The model thread as one video's thread sees it: a `PixelEncoder` that also answers prompts.

    Args:
        thread: runs the model.
        encoder: encodes frames in that thread.
        number: clients with lower numbers are served first.
    """

    def __init__(self, thread: ModelThread, encoder: PixelEncoder, number: int) -> None:
        self._thread = thread
        self._encoder = encoder
        self._number = number

    @property
    def device(self) -> torch.device:
        """See `PixelEncoder.device`."""
        return self._encoder.device

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """See `PixelEncoder.encode_pixels`."""
        kind = (1, (), tuple(pixels.shape[1:]))
        patches: Tensor = self._thread.ask(_FrameRequest(self._number, kind, pixels))
        return patches

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """See `PixelEncoder.compress_each`."""
        # Compression comes before encoding: it takes less time, and its video can go on.
        kind = (0, tuple(map(tuple, questions)), tuple(patches.shape[1:]))
        tokens: Tensor = self._thread.ask(_FrameRequest(self._number, kind, patches, questions))
        return tokens

    def generate_each(
        self,
        prompts: Iterable[PromptInputs],
        settings: DecodingSettings,
        *,
        after_last: Callable[[], None] = lambda: None,
    ) -> Iterator[Generation]:
        """Yield an answer per prompt, in order; see `generation_queue.generate_each`.

        Args:
            prompts: taken one at a time, each when the generation queue has room for it.
            settings: how answers are decoded.
            after_last: called once the prompts are exhausted.
        """
        answers: deque[Future[Generation]] = deque()
        for prompt in prompts:
            answers.append(self._thread.ask(_PromptRequest(prompt, settings)))
            while answers and answers[0].done():
                yield answers.popleft().result()
        after_last()
        while answers:
            yield answers.popleft().result()


def _fail(reply: Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
