"""Dense captioning: from a video to its events, each with times and a caption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from vidground.errors import VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.windows import WindowEvent, join_repeats, merge_events
from vidground.inference.answers import Answers, Reading, answer_notes, read_answers
from vidground.inference.backends import Backend
from vidground.inference.engine import Engine
from vidground.language.prompts import captioning_question, chat_prompt
from vidground.language.response_parsing import caption_segments
from vidground.model.d2vlm import D2VLM
from vidground.progress import OnProgress
from vidground.results.quality import caption_quality
from vidground.results.types import Captions, Event
from vidground.settings import (
    CPU,
    DEFAULT_MODEL,
    FULL_WEIGHTS,
    TORCH,
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    IsolationSettings,
    SamplingSettings,
)


class DenseCaptioner:
    """Finds and describes the events of videos.

    Examples:
        >>> captions = DenseCaptioner().caption("match.mp4")
        >>> captions.save("match.srt")

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "toy"), a folder, a Hugging Face hub id, or a
            loaded `D2VLM`.
        device: "cpu", "cuda" or "cuda:N"; None for a GPU if there is one, else the CPU.
        dtype: of weights and computation; None for bfloat16 on GPUs with bfloat16 units and float32
            on the CPU (`vidground.devices.choose_dtype`).
        weights: "full", or "int8" to store the language model's linear layers in 8 bits, which
            saves memory and changes scores slightly.
        sampling: how frames are sampled.
        decoding: how tokens are chosen.
        batch: how much is computed at once.
        isolation: limits for decoding videos in a separate process, which protects this one from
            crashes and hangs; None to decode in this process.
        decode_on: device that decodes videos: "cpu"; "cuda" or "cuda:N", on which a video fails
            that cannot be decoded to the same frames as on the CPU; or "auto" for a GPU where
            possible, else the CPU. A GPU without a number is the model's, else the first.
        cache: on-disk cache of encoded videos, so that the next question about a video need not
            encode it again; None for no cache.
        vision: frame encoder: "torch" for the model's own, "onnx:DIR" for an export in folder DIR,
            or a `FrameEncoder`.
        provider: execution provider of an export: "cuda", "cpu" or "tensorrt"; None for one of the
            first two, by the model's device.
        load_options: revision, subfolder, cache_dir, token, local_files_only; see
            `vidground.checkpoints.loading.load_model`.

    Raises:
        CheckpointError: the model or the export cannot be found or loaded.
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        model: str | Path | D2VLM = DEFAULT_MODEL,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        weights: str = FULL_WEIGHTS,
        sampling: SamplingSettings = SamplingSettings(),
        decoding: DecodingSettings = DecodingSettings(),
        batch: BatchSettings = BatchSettings(),
        isolation: IsolationSettings | None = None,
        decode_on: str = CPU,
        cache: CacheSettings | None = None,
        vision: str | FrameEncoder = TORCH,
        provider: str | None = None,
        **load_options: Any,
    ) -> None:
        self.engine = Engine(
            model,
            device=device,
            dtype=dtype,
            weights=weights,
            sampling=sampling,
            decoding=decoding,
            batch=batch,
            isolation=isolation,
            decode_on=decode_on,
            cache=cache,
            vision=vision,
            provider=provider,
            load_options=load_options,
        )

    def caption(
        self,
        video: str | PathLike[str] | EncodedVideo,
        *,
        question: str | None = None,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> Captions:
        """Caption one video.

        Args:
            video: a file, or the return value of `Grounder.encode`.
            question: replaces `vidground.language.prompts.captioning_question()`; it must lead to
                answers of the form "`<evi>`, caption. `<evi>`, caption.".
            on_progress: called as frames are encoded and answers are generated.
            backend: what computes, in a function that `Engine.work_on` calls; None for the
                engine's own.

        Raises:
            VideoError: the file cannot be read.
            InputError: the question is blank.
        """
        prompt = chat_prompt(captioning_question() if question is None else question)
        answers = self.engine.answer(
            video, [prompt], keep_tokens=True, on_progress=on_progress, backend=backend
        )
        staged = self.engine.model.config.evidence_stage
        readings = read_answers(answers, 0, self.engine.tokenizers, evidence_stage=staged)
        merged = merge_events(answers.windows, [window_events(reading) for reading in readings])
        events = join_repeats(merged)
        captions = tuple(_event(answers, event) for event in events)
        truncated = any(reading.generation.truncated for reading in readings)
        return Captions(
            events=captions,
            video=answers.info,
            provenance=self.engine.provenance(prompt.question, answers),
            answers=tuple(reading.text for reading in readings),
            warnings=(*answers.warnings, *answer_notes(answers, readings)),
            quality=caption_quality(
                captions,
                answers.info.duration_s,
                truncated=truncated,
                joined=len(merged) - len(events),
                damaged_packets=answers.info.damaged_packets,
            ),
        )

    def caption_many(
        self,
        paths: Iterable[str | PathLike[str]],
        *,
        question: str | None = None,
        on_error: Callable[[str, VidgroundError], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Captions]:
        """Caption several videos at once; yield the results in the order of the paths.

        At most `engine.sizes.videos` files are in progress at a time, and only while the iterator
        is consumed.

        Args:
            paths: of the videos.
            question: see `caption`.
            on_error: called with the path and the error of a video that fails, which is then
                skipped; a bug in vidground is passed as InternalError. None to raise the original
                exception.
            on_progress: called as frames are encoded and answers are generated.

        Yields:
            The captions of each video.

        Raises:
            VidgroundError: a video failed, and `on_error` is None.
        """

        def caption(backend: Backend, path: str | PathLike[str]) -> Captions:
            return self.caption(path, question=question, on_progress=on_progress, backend=backend)

        yield from self.engine.each(paths, caption, on_error)


def window_events(reading: Reading) -> list[WindowEvent]:
    """Return the captioned events of one window; evidence without a caption is left out."""
    events = []
    for ordinal, text in caption_segments(reading.parsed):
        evidence = reading.generation.evidence[ordinal]
        score = float(evidence.curve[evidence.first : evidence.last + 1].mean())
        start = reading.window.start
        if text:
            events.append(WindowEvent(start + evidence.first, start + evidence.last, text, score))
    return events


def _event(answers: Answers, event: WindowEvent) -> Event:
    return Event(*answers.seconds(event.first, event.last), event.text, event.score)
