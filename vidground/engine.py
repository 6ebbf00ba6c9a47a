"""Questions about a video to raw answers: what grounding and captioning have in common.

Holds the model and the settings; knows nothing of moments, captions or files of results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from vidground import __version__
from vidground.checkpoint import load_model
from vidground.encoding import (
    FrameEncoder,
    PatchChunk,
    compress_chunks,
    encode_runs,
    window_tokens,
)
from vidground.errors import CheckpointError, InputError
from vidground.files import file_sha256
from vidground.generation import Generation, generate
from vidground.isolation import IsolatedDecoder, IsolatedReader
from vidground.modeling import D2VLM
from vidground.onnx_vision import OnnxVision
from vidground.progress import OnProgress, Tracker
from vidground.prompts import Prompt, encode_prompt
from vidground.sequences import PromptInputs
from vidground.settings import (
    BatchSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
)
from vidground.tokens import Tokenizers
from vidground.types import Provenance, VideoInfo
from vidground.video import VideoReader
from vidground.windows import Window, plan_windows, span_seconds

TORCH, ONNX = "torch", "onnx:"
"""What encodes frames: the model itself, or an export, whose folder follows."""

Reader = VideoReader | IsolatedReader


@dataclass(frozen=True)
class EncodedVideo:
    """A video whose vision part is done: ask it as often as you like.

    chunks: patch features of its frames, on the CPU: 0.72 MB a frame in 16 bit for the released
    model. times_s: the T sampled instants. fps: the rate it was sampled at. model: whose vision
    encoder it was; another model cannot read these features. vision: what that encoder ran on.
    """

    info: VideoInfo
    times_s: tuple[float, ...]
    fps: float
    model: str
    chunks: tuple[PatchChunk, ...]
    warnings: tuple[str, ...] = ()
    vision: str = TORCH

    def __repr__(self) -> str:
        return f"EncodedVideo({self.info.path!r}, {len(self.times_s)} samples at {self.fps} fps)"


@dataclass(frozen=True)
class Answer:
    """What the model generated for one prompt on one window."""

    window: Window
    prompt: int
    generation: Generation


@dataclass(frozen=True)
class Answers:
    """All answers on one video, by window and then by prompt, and what is known of the video.

    times_s: the sampled instants. period_s: their distance. windows: those that were asked.
    """

    info: VideoInfo
    times_s: tuple[float, ...]
    period_s: float
    windows: tuple[Window, ...]
    answers: tuple[Answer, ...]
    warnings: tuple[str, ...]

    def of(self, prompt: int) -> list[Generation]:
        """The answers to one prompt, a window each."""
        return [answer.generation for answer in self.answers if answer.prompt == prompt]

    def seconds(self, first: int, last: int) -> tuple[float, float]:
        """Inclusive samples of the video as half-open seconds; see `windows.span_seconds`."""
        return span_seconds(
            self.times_s, first, last, period_s=self.period_s, duration_s=self.info.duration_s
        )


class Engine:
    """A loaded model with the settings it is run with.

    Args:
        model: a bundled name, a folder, a hub id, or a `D2VLM` that is loaded already.
        device: default CUDA if there is one, else the CPU.
        dtype: default bfloat16 on CUDA and float32 on the CPU.
        vision: what encodes frames: "torch" (the model itself), "onnx:DIR" (what `vidground export
            onnx` wrote to DIR), or a `FrameEncoder` of your own.
        provider: "tensorrt", "cuda" or "cpu", for "onnx:DIR"; default the best on the model's
            device.
        isolation: limits of the process that videos are decoded in; None to decode in this one.
        load_options: passed on to `checkpoint.load_model` (revision, subfolder, …).

    Raises:
        CheckpointError: if the model cannot be loaded, or has no language tokenizer, or the export
            is one of another model.
        InputError: if the provider cannot be used.
    """

    def __init__(
        self,
        model: str | Path | D2VLM,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        vision: str | FrameEncoder = TORCH,
        provider: str | None = None,
        sampling: SamplingSettings,
        decoding: DecodingSettings,
        batch: BatchSettings,
        isolation: IsolationSettings | None = None,
        load_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._decoder = None if isolation is None else IsolatedDecoder(isolation)
        if not isinstance(model, D2VLM):
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            on_gpu = str(device).startswith("cuda")
            dtype = dtype or (torch.bfloat16 if on_gpu else torch.float32)
            model = load_model(model, device=device, dtype=dtype, **dict(load_options or {}))
        elif device is not None or dtype is not None or load_options:
            raise InputError("a model that is loaded already keeps its device, dtype and revision")
        if model.tokenizers is None or model.tokenizers.language is None:
            raise CheckpointError(
                f"{model.name_or_path or 'this model'} has no language tokenizer; put the files "
                "of its tokenizer (tokenizer.json, tokenizer_config.json) beside its weights"
            )
        self.model = model.eval()
        self.tokenizers: Tokenizers = model.tokenizers
        self.sampling = sampling
        self.decoding = decoding
        self.batch = batch
        self.vision = _open_vision(vision, self.model, provider)
        _ = self.window_length  # refuse a window that is too long before any work

    def encode(
        self, path: str | PathLike[str], on_progress: OnProgress | None = None
    ) -> EncodedVideo:
        """Decode and encode a video once; the question comes later."""
        reader = self._open(path)
        tracker = Tracker(reader.info.path, len(reader.times_s), 0, on_progress)
        chunks = tuple(
            PatchChunk(chunk.patches.cpu(), chunk.spans) for chunk in self._chunks(reader, tracker)
        )
        return EncodedVideo(
            info=_hashed(reader.info),
            times_s=_times(reader),
            fps=self.sampling.fps,
            model=str(self.model.name_or_path),
            chunks=chunks,
            warnings=reader.warnings,
            vision=self._vision_name,
        )

    def answer(
        self,
        video: str | PathLike[str] | EncodedVideo,
        prompts: Sequence[Prompt],
        *,
        spans_s: Sequence[tuple[float, float]] = (),
        on_progress: OnProgress | None = None,
    ) -> Answers:
        """Generate an answer to every prompt on every window of a video.

        Args:
            spans_s: the intervals that `<evi>` in the prompts refer to, in seconds; only the
                windows that hold all of them are asked then.

        Raises:
            VideoError: if the video cannot be read.
            InputError: if a prompt does not fit, or no window holds all spans.
        """
        if isinstance(video, EncodedVideo):
            self._check_encoded(video)
            samples = len(video.times_s)
            windows = self._asked(self.windows(samples), spans_s)
            tracker = Tracker(
                video.info.path, samples, len(windows) * len(prompts), on_progress, done=samples
            )
            answers = tuple(self._generate(video.chunks, windows, prompts, spans_s, tracker))
            info, times, warnings = video.info, video.times_s, video.warnings
        else:
            reader = self._open(video)
            windows = self._asked(self.windows(len(reader.times_s)), spans_s)
            tracker = Tracker(
                reader.info.path, len(reader.times_s), len(windows) * len(prompts), on_progress
            )
            chunks = self._chunks(reader, tracker)
            answers = tuple(self._generate(chunks, windows, prompts, spans_s, tracker))
            # Only now is all known of the file's damage.
            info, times, warnings = _hashed(reader.info), _times(reader), reader.warnings
        return Answers(info, times, self.period_s, windows, answers, warnings)

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
        times = answers.times_s
        spans = tuple(
            (times[w.start], min(times[w.stop - 1] + self.period_s, answers.info.duration_s))
            for w in answers.windows
        )
        return Provenance(
            model=str(self.model.name_or_path),
            revision=getattr(self.model.config, "_commit_hash", None),
            vidground_version=__version__,
            dtype=str(self.model.dtype).removeprefix("torch."),
            prompt=prompt,
            fps=self.sampling.fps,
            windows_s=spans,
            decoding=asdict(self.decoding),
            time_resolution_s=self.period_s,
            settings=self._settings(),
            runtime=self._runtime(),
        )

    def _settings(self) -> dict[str, float | int]:
        window_s = self.sampling.window_s
        own: dict[str, float | int] = {} if window_s is None else {"window_s": window_s}
        return own | {"overlap": self.sampling.overlap}

    def _runtime(self) -> dict[str, str]:
        """What an answer depends on in its last digits."""
        libraries = {name: version(name) for name in ("torch", "transformers", "av")}
        attention = str(self.model.config._attn_implementation)
        used = {"device": self.model.device.type, "attention": attention}
        weights = self.model.files_digest  # of no use where the commit says it
        known = {} if weights is None else {"weights": weights}
        return {**used, "vision": self._vision_name, **known, **libraries}

    @property
    def _vision_name(self) -> str:
        return TORCH if self.vision is self.model else str(self.vision)

    def _open(self, path: str | PathLike[str]) -> Reader:
        fps, size = self.sampling.fps, self.model.config.image_size
        if self._decoder is not None:
            return IsolatedReader(self._decoder, path, fps=fps, image_size=size)
        return VideoReader(path, fps=fps, image_size=size)

    def _chunks(self, reader: Reader, tracker: Tracker) -> Iterator[PatchChunk]:
        return encode_runs(
            self.vision, reader.runs(), batch_size=self.batch.frames, on_samples=tracker.samples
        )

    def _generate(
        self,
        chunks: Iterable[PatchChunk],
        windows: Sequence[Window],
        prompts: Sequence[Prompt],
        spans_s: Sequence[tuple[float, float]],
        tracker: Tracker,
    ) -> Iterator[Answer]:
        encoded = [encode_prompt(prompt, self.tokenizers) for prompt in prompts]
        questions = [prompt.question for prompt in encoded]
        waiting: list[tuple[Window, int, PromptInputs]] = []
        tokens = compress_chunks(self.vision, chunks, questions, windows)
        for seen in window_tokens(tokens, windows):
            start = seen.window.start
            spans = [
                (a * self.sampling.fps - start, b * self.sampling.fps - start) for a, b in spans_s
            ]
            for index, (ids, frames) in enumerate(zip(encoded, seen.tokens, strict=True)):
                waiting.append(
                    (seen.window, index, PromptInputs(ids.before, ids.after, frames, spans))
                )
                if len(waiting) == self.batch.prompts:
                    yield from self._decode(waiting, tracker)
                    waiting = []
        if waiting:
            yield from self._decode(waiting, tracker)

    def _decode(
        self, waiting: Sequence[tuple[Window, int, PromptInputs]], tracker: Tracker
    ) -> Iterator[Answer]:
        generations = generate(self.model, [inputs for _, _, inputs in waiting], self.decoding)
        for (window, prompt, _), generation in zip(waiting, generations, strict=True):
            yield Answer(window, prompt, generation)
        tracker.answered(len(waiting))

    def _check_encoded(self, video: EncodedVideo) -> None:
        if video.fps != self.sampling.fps:
            raise InputError(
                f"the video was encoded at {video.fps} fps and is asked at {self.sampling.fps}; "
                "encode it with the same settings"
            )
        if video.model != str(self.model.name_or_path):
            raise InputError(
                f"the video was encoded by {video.model} and is asked of "
                f"{self.model.name_or_path}; encode it with the model that is asked"
            )
        if video.vision != self._vision_name:
            raise InputError(
                f"the video was encoded with vision {video.vision!r} and is asked with "
                f"{self._vision_name!r}; encode it with the same"
            )

    def _asked(
        self, windows: tuple[Window, ...], spans_s: Sequence[tuple[float, float]]
    ) -> tuple[Window, ...]:
        """The windows that hold every span that the question refers to."""
        fps = self.sampling.fps
        last = windows[-1].stop - 1
        for start, end in spans_s:
            if not (0 <= start <= end and round(start * fps) <= last):
                raise InputError(
                    f"the interval {start} - {end} s is not in the video, which ends at "
                    f"{(last + 1) / fps} s; give 0 <= start <= end"
                )
        holding = [
            window
            for window in windows
            if all(
                window.start <= round(start * fps) and min(round(end * fps), last) < window.stop
                for start, end in spans_s
            )
        ]
        if not holding:
            raise InputError(
                f"no window of {len(windows[0]) / fps} s holds all intervals of the question; ask "
                "about intervals that are closer together"
            )
        # Windows overlap; the first that holds the intervals is enough.
        return tuple(windows) if not spans_s else (holding[0],)


def _open_vision(vision: str | FrameEncoder, model: D2VLM, provider: str | None) -> FrameEncoder:
    if isinstance(vision, str) and vision.startswith(ONNX):
        return OnnxVision(vision.removeprefix(ONNX), model, provider=provider)
    if provider is not None:
        raise InputError(f"provider {provider!r} is onnxruntime's; use it with vision='onnx:DIR'")
    if vision == TORCH:
        return model
    if isinstance(vision, str):
        raise InputError(f"vision is {vision!r}; it must be 'torch' or 'onnx:DIR'")
    return vision


def _hashed(info: VideoInfo) -> VideoInfo:
    return replace(info, sha256=file_sha256(info.path))


def _times(reader: Reader) -> tuple[float, ...]:
    return tuple(reader.times_s.tolist())
