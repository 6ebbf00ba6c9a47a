"""One model for the threads of many videos: what they ask for at the same time is done at once.

A thread of its own works with the model. Frames of different videos go through vision together,
and their prompts are decoded together. Knows no videos and no files.
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
    """Nobody wants the work any more. No Exception, so that nothing takes it for a failure."""


@contextmanager
def _abandonable(model: D2VLM, abandoned: threading.Event) -> Iterator[None]:
    """Let this thread leave the block before any layer of the model, once its work is abandoned.

    On a CPU a batch takes minutes, so that looking between batches is not enough. A CUDA graph that
    is being recorded is finished first: a recording that breaks off can leave torch unusable.
    """
    thread = threading.get_ident()

    def look(*_: object) -> None:
        if abandoned.is_set() and threading.get_ident() == thread and not _is_recording():
            raise AbandonedError

    layers = [part for part in model.modules() if type(part).__name__ in model._no_split_modules]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_recording() -> bool:
    # Without CUDA it cannot even be asked.
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    return torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True, eq=False)
class _Frames:
    """Frames to encode, or patch features to compress with questions.

    number: of the thread that asks. kind: requests of one kind can be done at once; the lowest
    comes first.
    """

    number: int
    kind: tuple[Any, ...]
    values: Tensor
    questions: Sequence[Sequence[int]] | None = None
    reply: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Prompt:
    """A prompt to decode. reply: the future answer, once there is room for the prompt."""

    prompt: PromptInputs
    settings: DecodingSettings
    reply: Future[Any] = field(default_factory=Future)


class SharedModel:
    """The model's thread and what it is asked for.

    Args:
        vision: what encodes frames, in batches as large as they come. rows: prompts decoded at
            once, at most. frames: frames encoded at once, at most. graphs: see `GenerationQueue`.
    """

    def __init__(
        self,
        model: D2VLM,
        vision: PixelEncoder,
        *,
        rows: BatchSize,
        frames: BatchSize,
        graphs: bool | None = None,
    ) -> None:
        self._vision = vision
        self._frames = frames
        self._rows = rows
        self._new_queue = partial(GenerationQueue, model, rows, graphs=graphs)
        self._generation = self._new_queue()
        self._requests: SimpleQueue[_Frames | _Prompt | None] = SimpleQueue()
        self._ended: BaseException | None = None  # why nothing is served any more
        self._model = model
        self._abandoned = threading.Event()
        self._closing = threading.Lock()
        self._to_see: list[_Frames] = []
        self._to_answer: deque[_Prompt] = deque()
        self._promised: dict[int, Future[Generation]] = {}
        self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
        self._thread.start()

    def client(self, number: int) -> SharedModelClient:
        """The model as one thread sees it. number: lower ones are served first."""
        return SharedModelClient(self, self._vision, number)

    def ask(self, request: _Frames | _Prompt) -> Any:
        """Wait for the reply to a request. Raises AbandonedError once the model is closed."""
        with self._closing:
            if self._ended is not None:
                raise self._ended
            self._requests.put(request)
        return request.reply.result()

    def close(self) -> None:
        """End the work in progress, soon, and all that waits for it."""
        self._end(AbandonedError())
        self._abandoned.set()
        self._requests.put(None)
        self._thread.join()
        self._abandon()

    def _end(self, error: BaseException) -> None:
        with self._closing:
            self._ended = self._ended or error

    def _serve(self) -> None:
        try:
            with _abandonable(self._model, self._abandoned):
                while self._ended is None:
                    self._serve_some()
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised in every thread that waits
            self._end(error)
            self._abandon()

    def _serve_some(self) -> None:
        self._take(wait=not (self._to_see or len(self._generation)))
        self._accept()
        if self._to_see:
            self._see()
        elif len(self._generation):
            self._advance()

    def _take(self, *, wait: bool) -> None:
        """Sort the requests that have come, waiting for one if there is nothing else to do."""
        while True:
            try:
                request = self._requests.get(block=wait)
            except Empty:
                return
            wait = False
            if isinstance(request, _Frames):
                self._to_see.append(request)
            elif request is not None:
                self._to_answer.append(request)

    def _accept(self) -> None:
        """Take prompts while there is room: as many may wait as can be decoded at once."""
        while self._to_answer and len(self._generation) < 2 * self._rows.now:
            request = self._to_answer.popleft()
            try:
                ticket = self._generation.add(request.prompt, request.settings)
            except Exception as error:  # noqa: BLE001 - raised in the thread that asked
                request.reply.set_exception(error)
            else:
                promise = self._promised[ticket] = Future()
                request.reply.set_result(promise)

    def _advance(self) -> None:
        try:
            answers = self._generation.advance()
        except Exception as error:  # noqa: BLE001 - raised in the threads that wait for an answer
            # Which prompt is at fault is not known, nor what state the queue is in: those in it
            # fail, and later ones are answered by a new one.
            for promise in self._promised.values():
                _fail(promise, error)
            self._promised.clear()
            self._generation = self._new_queue()
            return
        for ticket, answer in answers:
            promise = self._promised.pop(ticket)
            if isinstance(answer, Exception):
                promise.set_exception(answer)
            else:
                promise.set_result(answer)

    @torch.inference_mode()
    def _see(self) -> None:
        """Encode or compress frames of the first videos, as many as go at once."""
        self._to_see.sort(key=lambda request: (request.kind, request.number))
        kind = self._to_see[0].kind
        batch: list[_Frames] = []
        for request in [request for request in self._to_see if request.kind == kind]:
            if batch and sum(len(r.values) for r in [*batch, request]) > self._frames.now:
                break
            batch.append(request)
        self._to_see = [request for request in self._to_see if request not in batch]
        try:
            seen = self._computed(batch)
            parts = torch.split(seen, [len(request.values) for request in batch])
        except BaseException as error:
            for request in batch:
                request.reply.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for request, part in zip(batch, parts, strict=True):
            request.reply.set_result(part)

    def _computed(self, batch: Sequence[_Frames]) -> Tensor:
        device = self._vision.device  # pixels and cached features come from main memory
        values = torch.cat([to_device(request.values, device) for request in batch])
        questions = batch[0].questions
        if questions is None:
            return self._vision.encode_pixels(values)
        return self._vision.compress_each(values, questions)

    def _abandon(self) -> None:
        """Let no thread wait for what does not come."""
        error = self._ended or AbandonedError()
        while True:
            try:
                request = self._requests.get(block=False)
            except Empty:
                break
            if request is not None:
                _fail(request.reply, error)
        replies = [request.reply for request in self._to_see]
        replies += [request.reply for request in self._to_answer]
        for reply in (*replies, *self._promised.values()):
            _fail(reply, error)


class SharedModelClient:
    """The shared model as the thread of one video sees it, which also answers prompts."""

    def __init__(self, shared: SharedModel, vision: PixelEncoder, number: int) -> None:
        self._shared = shared
        self._vision = vision
        self._number = number

    @property
    def device(self) -> torch.device:
        """See `PixelEncoder.device`."""
        return self._vision.device

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """See `PixelEncoder.encode_pixels`."""
        kind = (1, (), tuple(pixels.shape[1:]))
        seen: Tensor = self._shared.ask(_Frames(self._number, kind, pixels))
        return seen

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """See `PixelEncoder.compress_each`."""
        # Compressing comes before encoding: it takes less time, and lets its thread go on.
        kind = (0, tuple(map(tuple, questions)), tuple(patches.shape[1:]))
        seen: Tensor = self._shared.ask(_Frames(self._number, kind, patches, questions))
        return seen

    def generate_each(
        self,
        prompts: Iterable[PromptInputs],
        settings: DecodingSettings,
        *,
        after_last: Callable[[], None] = lambda: None,
    ) -> Iterator[Generation]:
        """See `generation.generate_each`. after_last: called once no prompt comes any more."""
        promised: deque[Future[Generation]] = deque()
        for prompt in prompts:
            promised.append(self._shared.ask(_Prompt(prompt, settings)))
            while promised and promised[0].done():
                yield promised.popleft().result()
        after_last()
        while promised:
            yield promised.popleft().result()


def _fail(reply: Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
