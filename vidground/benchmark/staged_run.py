"""Videos captioned one stage after the other, so that each has the device to itself and is timed.

The same work as `DenseCaptioner.caption_many` does all at once, by the same functions.
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
from vidground.video.frame_sampler import Footage
from vidground.video.preprocessing import resize_and_crop

_FORMATS = ("srt", "json")


@dataclass(frozen=True)
class StagedVideo:
    """What is known of a video after its frames are encoded.

    chunks: how many frames were encoded at once, each time. windows: frames of each window.
    """

    path: str
    duration_s: float
    times_s: tuple[float, ...]
    chunks: tuple[int, ...]
    windows: tuple[int, ...]


class StagedRun:
    """Takes videos through the stages, with a captioner's model and settings.

    meter: what the stages took. videos: in the order encoded. generations: an answer per window
    of each, once `answer` was called.
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
        """Decode a video, encode its frames, and make the frame tokens of its windows.

        Raises:
            VideoError: the file cannot be read.
        """
        engine = self._engine
        pixels: list[torch.Tensor] = []
        spans: list[tuple[int, int]] = []
        with self.meter.stage(DECODE):
            footage = Footage(path, fps=engine.sampling.fps, decode_on=engine.decode_on)
            shown = footage.frames()
        while True:
            with self.meter.stage(DECODE):
                frame = next(shown, None)
                rgb = None if frame is None else frame.frame.rgb()
            if frame is None or rgb is None:
                break
            with self.meter.stage(PREPROCESS):
                look = frame.frame
                picture = resize_and_crop(
                    rgb,
                    engine.model.config.image_size,
                    pixel_aspect=float(look.pixel_aspect),
                    orientation=look.orientation,
                )
            pixels.append(picture)
            spans.append((frame.first, frame.last))
        chunks = [self._encoded(*batch) for batch in _batches(pixels, spans, engine.sizes.frames)]
        windows = engine.windows(len(footage.times_s))
        with self.meter.stage(COMPRESS):
            tokens = compress_chunks(self._encoder, chunks, [self.prompt.question], windows)
            seen = [window.tokens[0] for window in window_tokens(tokens, windows)]
        self._waiting += [PromptInputs(self.prompt.before, self.prompt.after, t) for t in seen]
        self.videos.append(
            StagedVideo(
                fspath(path),
                footage.info.duration_s,
                tuple(footage.times_s.tolist()),
                tuple(len(chunk.spans) for chunk in chunks),
                tuple(len(frame_tokens) for frame_tokens in seen),
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
        """Generate the answers, as many at once as the captioner's settings say.

        The time of all but the first tokens is what remains when that of a run for the first
        tokens alone is taken off.
        """
        engine = self._engine
        first = DecodingSettings(max_new_tokens=1)
        size = engine.sizes.prompts
        # What is made once for all answers (rearranged weights, recorded steps) does not count.
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
        """Write results as subtitles and as JSON, to a folder that is removed again."""
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
