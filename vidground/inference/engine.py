"""From prompts about a video to raw answers: the common part of grounding and captioning.

Holds the model and the settings. Knows neither moments nor captions nor result files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from vidground.devices import choose_device
from vidground.errors import InputError, VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.frame_encoding import (
    FittingEncoder,
    PatchChunk,
    TokenChunk,
    compress_chunks,
    window_tokens,
)
from vidground.features.video_features import AnyChunk, VideoFeatures, counted
from vidground.features.windows import Window, plan_windows, window_samples, windows_about
from vidground.generation.prompt_batch import PromptInputs
from vidground.inference.answers import Answer, Answers, Reading, read_answers
from vidground.inference.backends import Backend, DirectBackend
from vidground.inference.batch_sizes import choose_sizes
from vidground.inference.inference_settings import InferenceSettings
from vidground.inference.model_setup import open_vision, ready_model
from vidground.inference.model_thread import ModelThread
from vidground.inference.provenance import model_warnings, provenance_of, runtime_of
from vidground.inference.video_source import VideoSource
from vidground.inference.video_threads import Pipeline, in_order
from vidground.language.prompts import Prompt, PromptIds, encode_prompt
from vidground.language.spoken_times import matched_prompt
from vidground.memory import BatchSize
from vidground.model.d2vlm import D2VLM
from vidground.outcomes import Outcome, one_by_one
from vidground.progress import OnProgress, Tracker
from vidground.results.types import Provenance
from vidground.settings import CPU, decode_on_card
from vidground.video.isolated_reader import DecoderPool
from vidground.video.nvdec import opens_card

Item = TypeVar("Item")
Made = TypeVar("Made")


class Engine:
    """A loaded model with the settings that it is run with.

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "etchat", "toy"), a folder, a Hugging Face hub
            id, or a loaded `D2VLM`.
        settings: how the model is loaded and run.

    Attributes:
        model: the model, in evaluation mode.
        tokenizers: of the model.
        vision: encodes frames: the model or its replacement.
        sampling: see `InferenceSettings`.
        decoding: see `InferenceSettings`.
        batch: see `InferenceSettings`.
        decode_on: device that decodes videos, with the number of the GPU if it is not the first.
        sizes: batch sizes chosen for this machine.
        backend: runs the model in the calling thread.

    Raises:
        CheckpointError: the model cannot be loaded or has no language tokenizer, or the export
            belongs to another model.
        InputError: the provider or the device for decoding is not available, or a window is longer
            than the model was trained on.
    """

    def __init__(
        self, model: str | Path | D2VLM, settings: InferenceSettings = InferenceSettings()
    ) -> None:
        batch, decode_on = settings.batch, settings.decode_on
        if decode_on != CPU:
            place = model.device if isinstance(model, D2VLM) else choose_device(settings.device)
            card = place.index if place.type == "cuda" else None
            decode_on = decode_on_card(decode_on, card or 0)
        has_card = opens_card(decode_on)
        self.decode_on = decode_on
        self._decoder = None
        if settings.isolation is not None:
            self._decoder = DecoderPool(settings.isolation, decode_on=decode_on)
        self.model, self.tokenizers = ready_model(model, settings)
        if batch.graphs and self.model.device.type != "cuda":
            raise InputError(
                f"graphs are CUDA graphs and the model is on {self.model.device}; use --device "
                "cuda, or leave --graphs (graphs=True) out"
            )
        self.sampling = settings.sampling
        self.decoding = settings.decoding
        self.batch = batch
        self.vision = open_vision(settings.vision, self.model, settings.provider)
        self.sizes = choose_sizes(
            batch,
            self.model.config,
            device=self.model.device,
            item_bytes=self.model.dtype.itemsize,
            new_tokens=self.decoding.max_new_tokens,
            readers_use_card=has_card,
        )
        if self._decoder is not None:
            self._decoder.keep = self.sizes.readers
        self._frames, self._rows = BatchSize(self.sizes.frames), BatchSize(self.sizes.prompts)
        self._encoder = FittingEncoder(self.vision, self._frames)
        self.backend: Backend = DirectBackend(
            self.model, self._encoder, rows=self._rows, frames=self._frames, graphs=batch.graphs
        )
        self._source = VideoSource(
            self.model,
            self.vision,
            sampling=self.sampling,
            decoders=self._decoder,
            decode_on=decode_on,
            cache=settings.cache,
        )
        _ = self.window_length  # raises before any work if a window is too long

    def encode(
        self,
        path: str | PathLike[str],
        on_progress: OnProgress | None = None,
        *,
        backend: Backend | None = None,
    ) -> EncodedVideo:
        """Decode and encode a video, to ask about it later.

        Args:
            path: of the video.
            on_progress: called as frames are encoded.
            backend: what computes; None for `self.backend`.

        Raises:
            VideoError: the file cannot be read.
        """
        backend = backend or self.backend
        video = self._source.patches(path, backend.encoder, backend.chunk_size)
        facts = video.facts
        tracker = Tracker(os.fspath(path), len(facts.times_s), 0, backend.relay(on_progress))
        chunks = tuple(
            PatchChunk(chunk.patches.cpu(), chunk.spans)
            for chunk in counted(video.chunks, tracker.samples)
        )
        return EncodedVideo(
            info=facts.info,
            times_s=facts.times_s,
            fps=self.sampling.fps,
            model=str(self.model.name_or_path),
            chunks=chunks,
            warnings=facts.warnings,
            vision=self._source.vision_name,
            bits=self._source.bits,
        )

    def answer(
        self,
        video: str | PathLike[str] | EncodedVideo,
        prompts: Sequence[Prompt],
        *,
        spans_s: Sequence[tuple[float, float]] = (),
        keep_tokens: bool = False,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> Answers:
        """Generate an answer to every prompt on every window of a video.

        Args:
            video: a file, or the return value of `encode`.
            prompts: at least one.
            spans_s: intervals in seconds that `<evi>` in the prompts refer to; only the first
                window that contains all of them is asked then.
            keep_tokens: cache frame tokens of these prompts instead of the larger patch features,
                because the same prompts are likely to be asked again and others are not.
            on_progress: called as frames are encoded and answers are generated.
            backend: what computes; None for `self.backend`.

        Raises:
            VideoError: the file cannot be read.
            InputError: a prompt does not fit, or no window contains all spans.
        """
        backend = backend or self.backend
        said_s = spans_s  # the spans of the time tokens as this model expresses them
        if self.model.config.matches and spans_s:
            said = [matched_prompt(prompt, spans_s) for prompt in prompts]
            prompts, said_s = [prompt for prompt, _ in said], said[0][1]
        encoded = [encode_prompt(prompt, self.tokenizers) for prompt in prompts]
        questions = [prompt.question for prompt in encoded]
        cached = questions if keep_tokens and not spans_s else None
        features = self._features(backend, video, cached)
        facts, samples = features.facts, len(features.facts.times_s)
        windows = windows_about(self.windows(samples), spans_s, fps=self.sampling.fps)
        if isinstance(video, EncodedVideo):
            path, done = video.info.path, samples
        else:
            path, done = os.fspath(video), 0
        total = len(windows) * len(prompts)
        tracker = Tracker(path, samples, total, backend.relay(on_progress), done=done)
        chunks = features.chunks if done else counted(features.chunks, tracker.samples)
        tokens = compress_chunks(backend.encoder, chunks, questions, windows)
        answers = tuple(self._generate(backend, tokens, encoded, windows, said_s, tracker))
        # The facts are read only now: damage is found while the file is decoded.
        warnings = (*facts.warnings, *model_warnings(self.model))
        return Answers(facts.info, facts.times_s, self.period_s, windows, answers, warnings)

    def _features(
        self,
        backend: Backend,
        video: str | PathLike[str] | EncodedVideo,
        questions: Sequence[Sequence[int]] | None,
    ) -> VideoFeatures[AnyChunk]:
        """Return patch features of a video, or frame tokens of questions if those are cached."""
        encoder, size = backend.encoder, backend.chunk_size
        if not isinstance(video, EncodedVideo):
            if questions is not None:
                return self._source.tokens(video, questions, encoder, size)
            return self._source.patches(video, encoder, size)
        video.require_made_with(
            fps=self.sampling.fps,
            model=str(self.model.name_or_path),
            vision=self._source.vision_name,
            bits=self._source.bits,
        )
        return VideoFeatures(video, iter(video.chunks))

    def work_on(
        self, items: Iterable[Item], work: Callable[[Backend, Item], Made]
    ) -> Generator[Outcome[Item, Made], None, None]:
        """Work on several items at once, `sizes.videos` of them, in shared batches of the model.

        Results are the same as one by one, except for the last digits of scores: these depend on
        which items share a batch, which depends on timing.

        Args:
            items: taken one at a time, each when there is room for it.
            work: makes the result of an item. It is called in any thread and passes the backend
                that it is given to `encode` and `answer` of this engine, or to methods of a
                `Grounder` or `DenseCaptioner` that has this engine. Their progress functions are
                called in the thread that iterates.

        Returns:
            A generator of outcomes, each as soon as it is known, in any order. Closing it abandons
            the work in progress.
        """
        if self.sizes.videos == 1:
            return one_by_one(items, partial(work, self.backend))
        start_model = partial(
            ModelThread,
            self.model,
            self._encoder,
            rows=self._rows,
            frames=self._frames,
            graphs=self.batch.graphs,
        )
        pipeline = Pipeline(
            start_model, self._frames, items=self.sizes.videos, readers=self.sizes.readers
        )
        return pipeline.run(items, work)

    def each(
        self,
        paths: Iterable[str | PathLike[str]],
        work: Callable[[Backend, str | PathLike[str]], Made],
        on_error: Callable[[str, VidgroundError], None] | None,
    ) -> Generator[Made, None, None]:
        """Work on several files at once; yield the results in the order of the files.

        Args:
            paths: of the files.
            work: see `work_on`.
            on_error: called with the path and the error of a file that fails, which is then
                skipped; see `video_threads.in_order`. None to raise the original exception.
        """
        files = self.work_on(enumerate(paths), lambda backend, file: work(backend, file[1]))
        with closing(files) as outcomes:
            yield from in_order(outcomes, on_error)

    @property
    def period_s(self) -> float:
        """Time between samples, in seconds."""
        return 1 / self.sampling.fps

    def windows(self, samples: int) -> tuple[Window, ...]:
        """Return the windows of a video with this number of samples."""
        length, overlap = self.window_length, self.sampling.overlap
        return tuple(plan_windows(samples, length=length, overlap=overlap))

    @property
    def window_length(self) -> int:
        """Maximum number of frames that the model sees at once.

        Raises:
            InputError: the settings ask for more than the model was trained on.
        """
        longest = int(self.model.config.max_frames)
        return window_samples(self.sampling.window_s, fps=self.sampling.fps, longest=longest)

    def read(self, answers: Answers, prompt: int = 0) -> list[Reading]:
        """Parse the answers of this engine's model to one prompt; see `read_answers`."""
        staged = self.model.config.evidence_stage
        return read_answers(answers, prompt, self.tokenizers, evidence_stage=staged)

    def provenance(self, prompt: str, answers: Answers) -> Provenance:
        """Return everything that determined an answer; see `provenance_of`."""
        source = self._source
        runtime = runtime_of(self.model, vision=source.vision_name, bits=source.bits)
        return provenance_of(
            answers,
            self.model,
            prompt=prompt,
            sampling=self.sampling,
            decoding=self.decoding,
            runtime=runtime,
        )

    def _generate(
        self,
        backend: Backend,
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

        for number, generation in enumerate(backend.generate_each(inputs(), self.decoding)):
            yield Answer(*asked[number], generation)
            tracker.answered(1)
