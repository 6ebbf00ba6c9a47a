"""Backends: what encodes frames and generates answers for one video.

`DirectBackend` runs the model in the calling thread. `SharedBackend` asks the thread that runs the
model for several videos at once (`vidground.inference.model_thread`). Knows no videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from vidground.features.frame_encoding import PixelEncoder
from vidground.generation.generation_queue import Generation, generate_each
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.model_thread import ModelThreadClient
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.progress import OnProgress, Progress
from vidground.settings import DecodingSettings

_CHUNKS = 4
"""Number of videos that share a full batch of frames if enough are in progress."""

Post = Callable[[Callable[[], None]], None]
"""Lets a function be called in the thread that iterates over the results."""


class Backend(Protocol):
    """Computes what `Engine.answer` and `Engine.encode` need for one video."""

    @property
    def encoder(self) -> PixelEncoder:
        """Encodes and compresses frames."""

    @property
    def chunk_size(self) -> int:
        """Number of frames to pass to the encoder at once."""

    def generate_each(
        self, prompts: Iterable[PromptInputs], settings: DecodingSettings
    ) -> Iterator[Generation]:
        """Yield an answer per prompt, in order; see `generation_queue.generate_each`."""

    def relay(self, on_progress: OnProgress | None) -> OnProgress | None:
        """Return a function that calls `on_progress` in the caller's thread."""


class DirectBackend:
    """Runs the model in the calling thread.

    Args:
        model: generates the answers.
        encoder: encodes frames.
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
        self.encoder = encoder
        self._model = model
        self._rows = rows
        self._frames = frames
        self._graphs = graphs

    @property
    def chunk_size(self) -> int:
        """See `Backend.chunk_size`."""
        return self._frames.now

    def generate_each(
        self, prompts: Iterable[PromptInputs], settings: DecodingSettings
    ) -> Iterator[Generation]:
        """See `Backend.generate_each`."""
        return generate_each(self._model, prompts, settings, self._rows, graphs=self._graphs)

    def relay(self, on_progress: OnProgress | None) -> OnProgress | None:
        """See `Backend.relay`."""
        return on_progress


class SharedBackend:
    """Asks the thread that runs the model for several videos at once.

    Args:
        client: the model thread, as this video's thread sees it.
        frames: maximum number of frames encoded at once, of all videos together.
        post: calls functions in the thread that iterates over the results.

    Attributes:
        is_reading: whether the video is still being read.
    """

    def __init__(self, client: ModelThreadClient, frames: BatchSize, post: Post) -> None:
        self.encoder = client
        self.is_reading = True
        self._frames = frames
        self._post = post

    @property
    def chunk_size(self) -> int:
        """See `Backend.chunk_size`."""
        return -(-self._frames.now // _CHUNKS)

    def generate_each(
        self, prompts: Iterable[PromptInputs], settings: DecodingSettings
    ) -> Iterator[Generation]:
        """See `Backend.generate_each`. The video has been read when the prompts are exhausted."""
        return self.encoder.generate_each(prompts, settings, after_last=self._end_reading)

    def relay(self, on_progress: OnProgress | None) -> OnProgress | None:
        """See `Backend.relay`."""
        if on_progress is None:
            return None
        call = on_progress  # which mypy knows not to be None in the function below

        def post(progress: Progress) -> None:
            self._post(lambda: call(progress))

        return post

    def _end_reading(self) -> None:
        self.is_reading = False
        self._post(lambda: None)  # another video may start now
