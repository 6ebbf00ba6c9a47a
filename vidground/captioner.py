"""Dense captioning: from a video to its events, each with times and a caption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Unpack

from vidground.errors import VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.windows import WindowEvent, join_repeats, merge_events
from vidground.inference.answers import Answers, answer_notes
from vidground.inference.backends import Backend
from vidground.inference.engine import Engine
from vidground.inference.inference_settings import InferenceOptions, InferenceSettings
from vidground.inference.moments import window_events
from vidground.language.prompts import captioning_question, chat_prompt
from vidground.model.d2vlm import D2VLM
from vidground.progress import OnProgress
from vidground.results.quality import caption_quality
from vidground.results.types import Captions, Event
from vidground.settings import DEFAULT_MODEL


class DenseCaptioner:
    """Finds and describes the events of videos.

    Examples:
        >>> captions = DenseCaptioner().caption("match.mp4")
        >>> captions.save("match.srt")

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "etchat", "toy"), a folder, a Hugging Face hub
            id, or a loaded `D2VLM`.
        options: fields of `InferenceSettings` (device, dtype, weights, sampling, decoding, batch,
            isolation, decode_on, cache, vision, provider), and load options (revision, subfolder,
            cache_dir, token, local_files_only).

    Raises:
        CheckpointError: the model or the export cannot be found or loaded.
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        model: str | Path | D2VLM = DEFAULT_MODEL,
        **options: Unpack[InferenceOptions],
    ) -> None:
        self.engine = Engine(model, InferenceSettings.of(options))

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
        readings = self.engine.read(answers)
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


def _event(answers: Answers, event: WindowEvent) -> Event:
    return Event(*answers.seconds(event.first, event.last), event.text, event.score)
