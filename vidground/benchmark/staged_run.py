"""Caption videos one stage after the other, so that each stage can be timed on an idle device.

Does the same work as `DenseCaptioner.caption_many`, with the same functions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike, fspath
from pathlib import Path

import torch

from vidground.benchmark.measuring import (
    COMPRESS,
    DECODE,
    PREFILL,
    PREPROCESS,
    TOKENS,
    VISION,
    WRITE,
    StageMeter,
)
from vidground.captioner import DenseCaptioner
from vidground.features.frame_encoding import (
    FittingEncoder,
    PatchChunk,
    compress_chunks,
    stack_pixels,
    window_tokens,
)
from vidground.generation.generation_queue import Generation, generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.language.prompts import PromptIds, captioning_question, chat_prompt, encode_prompt
from vidground.memory import BatchSize
from vidground.results.formats import save
from vidground.results.types import Captions
from vidground.settings import DecodingSettings
from vidground.video.frame_sampler import FrameSampler
from vidground.video.preprocessing import resize_and_crop

_FORMATS = ("srt", "json")


@dataclass(frozen=True)
class StagedVideo:
    """Facts of a video whose frames are encoded.

    Attributes:
        path: of the file.
        duration_s: its length in seconds.
        times_s: (T,) sampled instants in seconds.
        chunks: numbers of frames that were encoded at once.
        windows: number of frames of each window.
    """

    path: str
    duration_s: float
    times_s: tuple[float, ...]
    chunks: tuple[int, ...]
    windows: tuple[int, ...]


class StagedRun:
    """Runs videos through the stages, with a captioner's model and settings.

    Attributes:
        meter: time and memory of the stages.
        prompt: that is answered on every window.
        videos: in the order in which they were encoded.
        generations: an answer per window of each video, after `answer`.
    """

    def __init__(self, captioner: DenseCaptioner) -> None:
        self._engine = captioner.engine
        size = BatchSize(self._engine.sizes.frames)
        self._encoder = FittingEncoder(self._engine.vision, size)
        self.meter = StageMeter(self._engine.model.device)
        self.prompt: PromptIds = encode_prompt(
            chat_prompt(captioning_question()), self._engine.tokenizers
        )
        self.videos: list[StagedVideo] = []
        self.generations: list[Generation] = []
        self._waiting: list[PromptInputs] = []

    @torch.inference_mode()
    def encode(self, path: str | PathLike[str]) -> None:
        """Decode a video, encode its frames, and compute the frame tokens of its windows.

        Raises:
            VideoError: the file cannot be read.
        """
        engine = self._engine
        pixels: list[torch.Tensor] = []
        spans: list[tuple[int, int]] = []
        with self.meter.stage(DECODE):
            footage = FrameSampler(path, fps=engine.sampling.fps, decode_on=engine.decode_on)
            shown = footage.frames()
        while True:
            with self.meter.stage(DECODE):
                frame = next(shown, None)
                rgb = None if frame is None else frame.frame.rgb()
            if frame is None or rgb is None:
                break
            with self.meter.stage(PREPROCESS):
                picture = resize_and_crop(
                    rgb,
                    engine.model.config.image_size,
                    pixel_aspect=float(frame.frame.pixel_aspect),
                    orientation=frame.frame.orientation,
                )
            pixels.append(picture)
            spans.append((frame.first, frame.last))
        chunks = [self._encoded(*batch) for batch in _batches(pixels, spans, engine.sizes.frames)]
        windows = engine.windows(len(footage.times_s))
        with self.meter.stage(COMPRESS):
            tokens = compress_chunks(self._encoder, chunks, [self.prompt.question], windows)
            inputs = [window.tokens[0] for window in window_tokens(tokens, windows)]
        self._waiting += [PromptInputs(self.prompt.before, self.prompt.after, t) for t in inputs]
        self.videos.append(
            StagedVideo(
                fspath(path),
                footage.info.duration_s,
                tuple(footage.times_s.tolist()),
                tuple(len(chunk.spans) for chunk in chunks),
                tuple(len(frame_tokens) for frame_tokens in inputs),
            )
        )

    def _encoded(
        self, pixels: Sequence[torch.Tensor], spans: Sequence[tuple[int, int]]
    ) -> PatchChunk:
        with self.meter.stage(PREPROCESS):
            frames = stack_pixels(pixels, self._encoder.device)
        with self.meter.stage(VISION):
            return PatchChunk(self._encoder.encode_pixels(frames), tuple(spans))

    def answer(self) -> None:
        """Generate the answers, with the batch size of the captioner's settings.

        A run for the first tokens alone is timed too; its time is subtracted from that of the
        whole answers, which leaves the time of the other tokens.
        """
        engine = self._engine
        first = DecodingSettings(max_new_tokens=1)
        size = engine.sizes.prompts
        # Work done once for all answers (rearranged weights, CUDA graphs) is not timed.
        generate(engine.model, self._waiting[:size], DecodingSettings(max_new_tokens=3))
        for start in range(0, len(self._waiting), size):
            batch = self._waiting[start : start + size]
            with self.meter.stage(PREFILL):
                generate(engine.model, batch, first)
            with self.meter.stage(TOKENS):
                self.generations += generate(engine.model, batch, engine.decoding)
        prefill, tokens = self.meter.usage[PREFILL], self.meter.usage[TOKENS]
        tokens.seconds = max(0.0, tokens.seconds - prefill.seconds)
        tokens.cpu_s = max(0.0, tokens.cpu_s - prefill.cpu_s)

    def write(self, results: Sequence[Captions]) -> None:
        """Write results as subtitles and as JSON, to a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            for number, captions in enumerate(results):
                with self.meter.stage(WRITE):
                    for suffix in _FORMATS:
                        save(captions, Path(folder) / f"{number}.{suffix}")


def _batches(
    pixels: Sequence[torch.Tensor], spans: Sequence[tuple[int, int]], size: int
) -> Iterator[tuple[list[torch.Tensor], list[tuple[int, int]]]]:
    pairs = iter(zip(pixels, spans, strict=True))
    while batch := list(islice(pairs, size)):
        yield [picture for picture, _ in batch], [span for _, span in batch]
