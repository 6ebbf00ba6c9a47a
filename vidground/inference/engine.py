"""Questions about a video to raw answers: what grounding and captioning have in common.

Holds the model and the settings; knows nothing of moments, captions or files of results.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch

from vidground.devices import choose_device
from vidground.errors import InputError, VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.feature_cache import FeatureCache
from vidground.features.frame_encoding import (
    FittingEncoder,
    FrameEncoder,
    PatchChunk,
    PixelEncoder,
    TokenChunk,
    window_tokens,
)
from vidground.features.video_features import (
    CompressedVideo,
    DecodedVideo,
    Reader,
    VideoPatches,
    VideoTokens,
)
from vidground.features.windows import Window, plan_windows, windows_about
from vidground.generation.generation_queue import Generation, generate_each
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.answers import Answer, Answers
from vidground.inference.batch_sizes import choose_sizes
from vidground.inference.model_setup import open_vision, ready_model
from vidground.inference.model_thread import SharedModel
from vidground.inference.provenance import provenance_of, runtime_of
from vidground.inference.video_threads import Flight, Pipeline, in_order
from vidground.language.prompts import Prompt, PromptIds, encode_prompt
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.outcomes import Outcome, one_by_one
from vidground.progress import OnProgress, Progress, Tracker
from vidground.results.types import Provenance
from vidground.settings import (
    CPU,
    FULL_WEIGHTS,
    TORCH,
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
    check_decode_on,
    decode_on_card,
)
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.nvdec import opens_card
from vidground.video.reader import VideoReader

Item = TypeVar("Item")
Made = TypeVar("Made")

_CHUNKS = 4
"""Videos that share a batch of frames, if so many are in flight."""


class Engine:
    """A loaded model with the settings it is run with.

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "toy"), a folder, a hub id, or a `D2VLM` that is
            loaded already.
        device: default CUDA if there is one, else the CPU.
        dtype: of the weights and of what is computed; default bfloat16 on cards that have units
            for it and float32 on the CPU (`devices.choose_dtype`).
        weights: "full", or "int8" to hold the weights of the language model's linear layers in 8
            bits and compute in dtype all the same: less memory, and slightly other numbers.
        vision: what encodes frames: "torch" (the model itself), "onnx:DIR" (what `vidground export
            onnx` wrote to DIR), or a `FrameEncoder` of your own.
        provider: where "onnx:DIR" runs, "cuda", "cpu" or "tensorrt"; default one of the first two,
            by the model's device. TensorRT builds an engine first, which takes minutes.
        isolation: limits of the process that videos are decoded in; None to decode in this one.
        decode_on: where videos are decoded: "cpu"; "cuda" or "cuda:1", an NVIDIA card, on which a
            video fails that is not surely decoded to the same pictures; or "auto", a card where
            there is one and for the videos that it decodes, else the CPU, which a result's
            warnings tell. A card without a number is the model's, else the first.
        cache: what is kept of videos for later questions; None keeps and rounds nothing.
        load_options: passed on to `checkpoint.load_model` (revision, subfolder, …).

    Raises:
        CheckpointError: if the model cannot be loaded, or has no language tokenizer, or the export
            is one of another model.
        InputError: if the provider cannot be used, or there is no card that `decode_on` demands.
    """

    def __init__(
        self,
        model: str | Path | D2VLM,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        weights: str = FULL_WEIGHTS,
        vision: str | FrameEncoder = TORCH,
        provider: str | None = None,
        sampling: SamplingSettings,
        decoding: DecodingSettings,
        batch: BatchSettings,
        isolation: IsolationSettings | None = None,
        decode_on: str = CPU,
        cache: CacheSettings | None = None,
        load_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_decode_on(decode_on)
        if decode_on != CPU:
            place = model.device if isinstance(model, D2VLM) else choose_device(device)
            card = place.index if place.type == "cuda" else None
            decode_on = decode_on_card(decode_on, card or 0)
        has_card = opens_card(decode_on)
        self.decode_on = decode_on
        self._decoder = None
        if isolation is not None:
            self._decoder = DecoderPool(isolation, decode_on=decode_on)
        self._here = threading.local()
        self.model, self.tokenizers = ready_model(
            model, device=device, dtype=dtype, weights=weights, load_options=load_options
        )
        if batch.graphs and self.model.device.type != "cuda":
            raise InputError(
                f"graphs are CUDA graphs and the model is on {self.model.device}; use --device "
                "cuda, or leave --graphs (graphs=True) out"
            )
        self.sampling = sampling
        self.decoding = decoding
        self.batch = batch
        self.vision = open_vision(vision, self.model, provider)
        self.sizes = choose_sizes(
            batch,
            self.model.config,
            device=self.model.device,
            item_bytes=self.model.dtype.itemsize,
            new_tokens=decoding.max_new_tokens,
            readers_use_card=has_card,
        )
        if self._decoder is not None:
            self._decoder.keep = self.sizes.readers
        self._frames, self._rows = BatchSize(self.sizes.frames), BatchSize(self.sizes.prompts)
        self._encoder = FittingEncoder(self.vision, self._frames)
        self._cache: FeatureCache | None = None
        if cache is not None:
            self._cache = self._open_cache(cache)
        _ = self.window_length  # refuse a window that is too long before any work

    def encode(
        self, path: str | PathLike[str], on_progress: OnProgress | None = None
    ) -> EncodedVideo:
        """Decode and encode a video once; the question comes later."""
        video = self._patches(path)
        on_progress = self._heard(on_progress)
        tracker = Tracker(os.fspath(path), len(video.times_s), 0, on_progress)
        chunks = tuple(
            PatchChunk(chunk.patches.cpu(), chunk.spans) for chunk in video.patches(tracker.samples)
        )
        return EncodedVideo(
            info=video.info,
            times_s=video.times_s,
            fps=self.sampling.fps,
            model=str(self.model.name_or_path),
            chunks=chunks,
            warnings=video.warnings,
            vision=self._vision_name,
            bits=self._bits,
        )

    def answer(
        self,
        video: str | PathLike[str] | EncodedVideo,
        prompts: Sequence[Prompt],
        *,
        spans_s: Sequence[tuple[float, float]] = (),
        keep_tokens: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Answers:
        """Generate an answer to every prompt on every window of a video.

        Args:
            keep_tokens: the same prompts are likely to come again and others are not, so let the
                cache hold frame tokens instead of the larger patch features.
            spans_s: the intervals that `<evi>` in the prompts refer to, in seconds; only the
                windows that hold all of them are asked then.

        Raises:
            VideoError: if the video cannot be read.
            InputError: if a prompt does not fit, or no window holds all spans.
        """
        on_progress = self._heard(on_progress)
        encoded = [encode_prompt(prompt, self.tokenizers) for prompt in prompts]
        questions = [prompt.question for prompt in encoded]
        source: VideoTokens
        if isinstance(video, EncodedVideo):
            video.require_made_with(
                fps=self.sampling.fps,
                model=str(self.model.name_or_path),
                vision=self._vision_name,
                bits=self._bits,
            )
            source = CompressedVideo(video, self._eyes)
            path, done = video.info.path, len(video.times_s)
        else:
            source = self._tokens(video, questions, keep=keep_tokens and not spans_s)
            path, done = os.fspath(video), 0
        samples = len(source.times_s)
        windows = windows_about(self.windows(samples), spans_s, fps=self.sampling.fps)
        total = len(windows) * len(prompts)
        tracker = Tracker(path, samples, total, on_progress, done=done)
        chunks = source.tokens(questions, windows, tracker.samples)
        answers = tuple(self._generate(chunks, encoded, windows, spans_s, tracker))
        # Only now is all known of the file's damage.
        info, warnings = source.info, source.warnings
        return Answers(info, source.times_s, self.period_s, windows, answers, warnings)

    def work_on(
        self, items: Iterable[Item], work: Callable[[Item], Made]
    ) -> Generator[Outcome[Item, Made], None, None]:
        """Do work on several items at once, `sizes.videos` of them; what it asks of this engine
        shares the model's batches. What is found is the same as one by one, but for the last
        digits of scores: they depend on which items share a batch, which is a matter of time.

        Args:
            work: a function that calls this engine (or a `Grounder` or `DenseCaptioner` with it)
                in whatever thread it is called in. The functions it hands over for progress are
                called in the thread that iterates.

        Returns:
            What came of each item as soon as it is known, in any order; see `Pipeline.run`.
        """
        if self.sizes.videos == 1:
            yield from one_by_one(items, work)
            return
        shared = SharedModel(
            self.model,
            self._encoder,
            rows=self._rows,
            frames=self._frames,
            graphs=self.batch.graphs,
        )
        pipeline = Pipeline(shared, most=self.sizes.videos, readers=self.sizes.readers)

        def in_flight(item: Item, flight: Flight) -> Made:
            with self._flying(flight):
                return work(item)

        with closing(pipeline.run(items, in_flight)) as landed:
            yield from landed

    def each(
        self,
        paths: Iterable[str | PathLike[str]],
        work: Callable[[str | PathLike[str]], Made],
        on_error: Callable[[str, VidgroundError], None] | None,
    ) -> Generator[Made, None, None]:
        """What work makes of files, several at once, in the order of the paths.

        Args:
            on_error: called with a file that fails, which is then left out; see
                `pipeline.in_order`. Without it the original exception is raised and the iteration
                ends.
        """
        with closing(self.work_on(enumerate(paths), lambda file: work(file[1]))) as landed:
            yield from in_order(landed, on_error)

    @contextmanager
    def _flying(self, flight: Flight) -> Iterator[None]:
        """In this thread, ask the shared model instead of the own one."""
        self._here.flight = flight
        try:
            yield
        finally:
            self._here.flight = None

    @property
    def _flight(self) -> Flight | None:
        return getattr(self._here, "flight", None)

    def _heard(self, on_progress: OnProgress | None) -> OnProgress | None:
        """The function, called in the thread that asks for results."""
        flight = self._flight
        if flight is None or on_progress is None:
            return on_progress
        hear = on_progress

        def tell(progress: Progress) -> None:
            flight.tell(lambda: hear(progress))

        return tell

    @property
    def period_s(self) -> float:
        """Distance of sampled frames, in seconds."""
        return 1 / self.sampling.fps

    def windows(self, samples: int) -> tuple[Window, ...]:
        """How a video of so many samples is cut for the model."""
        length, overlap = self.window_length, self.sampling.overlap
        return tuple(plan_windows(samples, length=length, overlap=overlap))

    @property
    def window_length(self) -> int:
        """Frames given to the model at once, at most.

        Raises:
            InputError: if the settings ask for more than the model was trained on.
        """
        longest = int(self.model.config.max_frames)
        if self.sampling.window_s is None:
            return longest
        length = max(1, round(self.sampling.window_s * self.sampling.fps))
        if length > longest:
            raise InputError(
                f"a window of {self.sampling.window_s} s at {self.sampling.fps} fps is {length} "
                f"frames; the model was trained on at most {longest}: use a shorter window or a "
                "lower fps"
            )
        return length

    def provenance(self, prompt: str, answers: Answers) -> Provenance:
        """Everything that made an answer but what the question alone knows."""
        runtime = runtime_of(self.model, vision=self._vision_name, bits=self._bits)
        return provenance_of(
            answers,
            self.model,
            prompt=prompt,
            sampling=self.sampling,
            decoding=self.decoding,
            runtime=runtime,
        )

    @property
    def _bits(self) -> int | None:
        return None if self._cache is None else self._cache.bits

    @property
    def _vision_name(self) -> str:
        return TORCH if self.vision is self.model else str(self.vision)

    def _open(self, path: str | PathLike[str]) -> Reader:
        fps, size = self.sampling.fps, self.model.config.image_size
        if self._decoder is not None:
            return IsolatedReader(self._decoder, path, fps=fps, image_size=size)
        return VideoReader(path, fps=fps, image_size=size, decode_on=self.decode_on)

    def _open_cache(self, settings: CacheSettings) -> FeatureCache:
        # Of the weights those of the vision part alone matter, which the cache finds out itself.
        runtime = runtime_of(self.model, vision=self._vision_name, bits=None)
        return FeatureCache(
            settings,
            vision=self.vision,
            model=self.model,
            made_with={
                **runtime,
                "fps": self.sampling.fps,
                "image_size": self.model.config.image_size,
                "dtypes": f"{self.vision.dtype} {self.model.dtype}",
            },
        )

    def _decoded(self, path: str | PathLike[str], sha256: str | None = None) -> DecodedVideo:
        return DecodedVideo(self._open(path), **self._seeing, sha256=sha256)

    def _patches(self, path: str | PathLike[str]) -> VideoPatches:
        if self._cache is None:
            return self._decoded(path)
        return self._cache.patches(path, partial(self._decoded, path), **self._seeing)

    def _tokens(
        self, path: str | PathLike[str], questions: Sequence[Sequence[int]], *, keep: bool
    ) -> VideoTokens:
        if self._cache is None or not keep:
            return CompressedVideo(self._patches(path), self._eyes)
        return self._cache.tokens(path, partial(self._decoded, path), questions, **self._seeing)

    @property
    def _seeing(self) -> _Seeing:
        """What frames are encoded and compressed by, and how many at once."""
        size = self._frames.now if self._flight is None else -(-self._frames.now // _CHUNKS)
        return {"vision": self._eyes, "batch_size": size}

    @property
    def _eyes(self) -> PixelEncoder:
        """What encodes frames for this thread."""
        return self._encoder if self._flight is None else self._flight.model

    def _generate(
        self,
        chunks: Iterable[TokenChunk],
        prompts: Sequence[PromptIds],
        windows: Sequence[Window],
        spans_s: Sequence[tuple[float, float]],
        tracker: Tracker,
    ) -> Iterator[Answer]:
        asked: list[tuple[Window, int]] = []

        def inputs() -> Iterator[PromptInputs]:
            for seen in window_tokens(chunks, windows):
                start, fps = seen.window.start, self.sampling.fps
                spans = [(a * fps - start, b * fps - start) for a, b in spans_s]
                for index, (ids, frames) in enumerate(zip(prompts, seen.tokens, strict=True)):
                    asked.append((seen.window, index))
                    yield PromptInputs(ids.before, ids.after, frames, spans)

        for number, generation in enumerate(self._answers(inputs())):
            yield Answer(*asked[number], generation)
            tracker.answered(1)

    def _answers(self, prompts: Iterable[PromptInputs]) -> Iterator[Generation]:
        if self._flight is not None:
            return self._flight.generate_each(prompts, self.decoding)
        return generate_each(
            self.model, prompts, self.decoding, self._rows, graphs=self.batch.graphs
        )


class _Seeing(TypedDict):
    vision: PixelEncoder
    batch_size: int
