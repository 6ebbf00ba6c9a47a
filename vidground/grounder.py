"""Temporal grounding: from queries on a video to moments, relevance curves and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Unpack, overload

import torch

from vidground.errors import InputError, VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.windows import distinct_spans, merge_curves
from vidground.inference.answers import Answers, Reading, answer_notes
from vidground.inference.backends import Backend
from vidground.inference.engine import Engine
from vidground.inference.inference_settings import InferenceOptions, InferenceSettings
from vidground.inference.moments import moment_spans
from vidground.language.prompts import Prompt, chat_prompt, grounding_question
from vidground.model.d2vlm import D2VLM
from vidground.progress import OnProgress
from vidground.results.types import GroundingResult, Moment, Provenance, Relevance
from vidground.settings import DEFAULT_MODEL, GroundingSettings

__all__ = ["EncodedVideo", "Grounder"]

Video = str | PathLike[str] | EncodedVideo


class Grounder:
    """Finds the moments of videos that match a text, and answers questions about them.

    Examples:
        >>> result = Grounder().query("match.mp4", "a player scores")
        >>> result.moments[0].start_s, result.moments[0].end_s

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "etchat", "toy"), a folder, a Hugging Face hub
            id, or a loaded `D2VLM`.
        grounding: how relevance becomes moments.
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
        *,
        grounding: GroundingSettings = GroundingSettings(),
        **options: Unpack[InferenceOptions],
    ) -> None:
        self.grounding = grounding
        self.engine = Engine(model, InferenceSettings.of(options))

    def encode(
        self,
        path: str | PathLike[str],
        *,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> EncodedVideo:
        """Encode a video once, to ask about it several times.

        This is nearly all of the work; it does not depend on the question.

        Args:
            path: of the video.
            on_progress: called as frames are encoded.
            backend: what computes, in a function that `Engine.work_on` calls; None for the
                engine's own.

        Returns:
            The encoded video, for `query` and `ask` of a grounder with the same model and sampling.

        Raises:
            VideoError: the file cannot be read.
        """
        return self.engine.encode(path, on_progress, backend=backend)

    @overload
    def query(  # type: ignore[overload-overlap]  # a str is one text, not a sequence of them
        self,
        video: Video,
        text: str,
        *,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> GroundingResult: ...
    @overload
    def query(
        self,
        video: Video,
        text: Sequence[str],
        *,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> list[GroundingResult]: ...
    def query(
        self,
        video: Video,
        text: str | Sequence[str],
        *,
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> GroundingResult | list[GroundingResult]:
        """Find when something happens in a video.

        Args:
            video: a file, or the return value of `encode`.
            text: what to look for, for example "a player scores"; or several such texts.
            on_progress: called as frames are encoded and answers are generated.
            backend: what computes, in a function that `Engine.work_on` calls; None for the
                engine's own.

        Returns:
            One result, or a list with one result per text, in order.

        Raises:
            VideoError: the file cannot be read.
            InputError: a text is blank, or there is none.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise InputError("0 queries given; give at least one text to look for")
        prompts = [chat_prompt(grounding_question(query)) for query in texts]
        answers = self.engine.answer(video, prompts, on_progress=on_progress, backend=backend)
        results = [
            self._result(query, prompt, answers, index)
            for index, (query, prompt) in enumerate(zip(texts, prompts, strict=True))
        ]
        return results[0] if isinstance(text, str) else results

    def query_many(
        self,
        paths: Iterable[str | PathLike[str]],
        text: str | Sequence[str],
        *,
        on_error: Callable[[str, VidgroundError], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[list[GroundingResult]]:
        """Query several videos at once; yield the results in the order of the paths.

        At most `engine.sizes.videos` files are in progress at a time, and only while the iterator
        is consumed.

        Args:
            paths: of the videos.
            text: what to look for in each video, or several such texts.
            on_error: called with the path and the error of a video that fails, which is then
                skipped; a bug in vidground is passed as InternalError. None to raise the original
                exception.
            on_progress: called as frames are encoded and answers are generated.

        Yields:
            For each video, a list with one result per text.

        Raises:
            VidgroundError: a video failed, and `on_error` is None.
        """
        texts = [text] if isinstance(text, str) else list(text)

        def query(backend: Backend, path: str | PathLike[str]) -> list[GroundingResult]:
            return self.query(path, texts, on_progress=on_progress, backend=backend)

        yield from self.engine.each(paths, query, on_error)

    def ask(
        self,
        video: Video,
        question: str,
        *,
        about: Sequence[tuple[float, float]] = (),
        on_progress: OnProgress | None = None,
        backend: Backend | None = None,
    ) -> GroundingResult:
        """Ask a free question; the result has the answer and the moments that support it.

        Args:
            video: a file, or the return value of `encode`.
            question: given to the model unchanged. Each `<evi>` in it refers to an interval of
                `about`, in order ("what happens in <evi>?").
            about: (start_s, end_s) in seconds, one for each `<evi>` in the question.
            on_progress: called as frames are encoded and answers are generated.
            backend: what computes, in a function that `Engine.work_on` calls; None for the
                engine's own.

        Returns:
            The answer of the window whose evidence scores highest.

        Raises:
            VideoError: the file cannot be read.
            InputError: the question is blank, its number of `<evi>` is not that of `about`, or an
                interval lies outside the video.
        """
        prompt = chat_prompt(question, references=len(about))
        answers = self.engine.answer(
            video, [prompt], spans_s=about, on_progress=on_progress, backend=backend
        )
        result = self._result(question, prompt, answers, 0)
        spans = tuple((float(start), float(end)) for start, end in about)
        return replace(result, provenance=replace(result.provenance, about_s=spans))

    def _result(self, query: str, prompt: Prompt, answers: Answers, index: int) -> GroundingResult:
        """Merge the answers of all windows to one prompt."""
        readings = self.engine.read(answers, index)
        share = self.engine.model.config.evidence_threshold
        per_window = [moment_spans(reading, share=share) for reading in readings]
        scores = [max((score for _, _, score in spans), default=-1.0) for spans in per_window]
        best = readings[scores.index(max(scores))]
        spans = distinct_spans([span for spans in per_window for span in spans])
        threshold = self.grounding.found_threshold
        moments = tuple(
            Moment(*answers.seconds(first, last), score)
            for first, last, score in spans[: self.grounding.max_moments]
            if score >= threshold
        )
        return GroundingResult(
            query=query,
            found=bool(moments),
            moments=moments,
            answer=best.text,
            relevance=_relevance(answers, readings),
            threshold=threshold,
            video=answers.info,
            provenance=self._provenance(prompt, answers),
            warnings=(*answers.warnings, *answer_notes(answers, readings)),
            quality={
                "best_score": max(scores) if spans else None,
                "truncated": any(reading.generation.truncated for reading in readings),
                "damaged_packets": answers.info.damaged_packets,
            },
        )

    def _provenance(self, prompt: Prompt, answers: Answers) -> Provenance:
        provenance = self.engine.provenance(prompt.question, answers)
        settings = {**provenance.settings, "max_moments": self.grounding.max_moments}
        return replace(provenance, settings=settings)


def _relevance(answers: Answers, readings: Sequence[Reading]) -> Relevance:
    """Return per sample the highest relevance to any evidence that the answer refers to.

    An answer without evidence has the curve of the last position of the prompt.
    """
    curves = []
    for reading in readings:
        evidence = [item.curve for item in reading.referred]
        curve = torch.stack(evidence).amax(0) if evidence else reading.generation.prompt_curve
        curves.append(curve.tolist())
    # A question about intervals is answered on one window, and the curve covers that window only.
    first = answers.windows[0].start
    values = merge_curves(answers.windows, curves) if len(curves) > 1 else curves[0]
    return Relevance(answers.times_s[first : first + len(values)], tuple(values))
