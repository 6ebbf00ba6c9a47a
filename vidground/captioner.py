"""What happens, and when? A video to the events in it, each with its caption."""

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
from vidground.inference.answers import Answers
from vidground.inference.engine import Engine
from vidground.inference.reading import Reading, answer_notes, read_answers
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

    >>> captions = DenseCaptioner().caption("match.mp4")
    >>> captions.save("match.srt")

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "toy"), a folder, a hub id, or a loaded `D2VLM`.
        device, dtype: by default a GPU if there is one, and the type that suits it; see `Engine`.
        weights: "int8" holds the language model's weights in 8 bits, which saves memory; see
            `Engine`.
        sampling, decoding, batch: see `vidground.settings`.
        vision, provider: what encodes frames: "torch", or "onnx:DIR" and on which of
            onnxruntime's providers; see `Engine`.
        isolation: limits for decoding in a process of its own, which may crash or hang without
            taking this one along; None to decode in this one.
        decode_on: where videos are decoded: "cpu", "cuda", "cuda:1" or "auto"; see `Engine`.
        cache: what is kept of videos on the disk, so that the next question about one need not
            encode it again; None, the default, keeps nothing.
        load_options: revision, subfolder, cache_dir, token, local_files_only.

    Raises:
        CheckpointError: if the model, or the export, cannot be found or loaded.
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
    ) -> Captions:
        """Caption one video.

        Args:
            video: a file, or what `Grounder.encode` returned.
            question: what to ask instead of `prompts.captioning_question()`; the answer must
                have the form "`<evi>`, caption. `<evi>`, caption." to be read.

        Raises:
            VideoError: if the file cannot be read. InputError: if the question is empty.
        """
        prompt = chat_prompt(captioning_question() if question is None else question)
        answers = self.engine.answer(video, [prompt], keep_tokens=True, on_progress=on_progress)
        staged = self.engine.model.config.evidence_stage
        readings = read_answers(answers, 0, self.engine.tokenizers, evidence_stage=staged)
        seen = merge_events(answers.windows, [window_events(reading) for reading in readings])
        events = join_repeats(seen)
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
                joined=len(seen) - len(events),
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
        """Caption videos, several at once; give the results in the order of the paths.

        Work goes on only while results are asked for, and on at most `engine.sizes.videos` files
        at a time.

        Args:
            on_error: called with a file that fails, which is then left out, and with the error:
                an InternalError if it was a mistake of the program. Without it the original
                exception is raised and the iteration ends.
        """

        def caption(path: str | PathLike[str]) -> Captions:
            return self.caption(path, question=question, on_progress=on_progress)

        yield from self.engine.each(paths, caption, on_error)


def window_events(reading: Reading) -> list[WindowEvent]:
    """The captioned events of one window; an event without a caption is none."""
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
