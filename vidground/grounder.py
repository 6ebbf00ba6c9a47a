"""When does it happen? Queries on a video to moments, relevance curves and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

import torch

from vidground.errors import InputError, VidgroundError
from vidground.features.encoded_video import EncodedVideo
from vidground.features.frame_encoding import FrameEncoder
from vidground.features.windows import distinct_spans, merge_curves
from vidground.inference.answers import Answers
from vidground.inference.engine import Engine
from vidground.inference.reading import Reading, answer_notes, read_answers
from vidground.language.prompts import Prompt, chat_prompt, grounding_question
from vidground.model.d2vlm import D2VLM
from vidground.model.evidence import run_means
from vidground.progress import OnProgress
from vidground.results.types import GroundingResult, Moment, Provenance, Relevance
from vidground.settings import (
    CPU,
    DEFAULT_MODEL,
    FULL_WEIGHTS,
    TORCH,
    BatchSettings,
    CacheSettings,
    DecodingSettings,
    GroundingSettings,
    IsolationSettings,
    SamplingSettings,
)

__all__ = ["EncodedVideo", "Grounder"]

Video = str | PathLike[str] | EncodedVideo


class Grounder:
    """Finds the moments of a video that fit a text.

    >>> result = Grounder().query("match.mp4", "a player scores")
    >>> result.moments[0].start_s, result.moments[0].end_s

    Args:
        model: a known name ("d2vlm", "d2vlm-mcqa", "toy"), a folder, a hub id, or a loaded `D2VLM`.
        device, dtype: by default a GPU if there is one, and the type that suits it; see `Engine`.
        weights: "int8" holds the language model's weights in 8 bits, which saves memory; see
            `Engine`.
        sampling, decoding, grounding, batch: see `vidground.settings`.
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
        grounding: GroundingSettings = GroundingSettings(),
        batch: BatchSettings = BatchSettings(),
        isolation: IsolationSettings | None = None,
        decode_on: str = CPU,
        cache: CacheSettings | None = None,
        vision: str | FrameEncoder = TORCH,
        provider: str | None = None,
        **load_options: Any,
    ) -> None:
        self.grounding = grounding
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

    def encode(
        self, path: str | PathLike[str], *, on_progress: OnProgress | None = None
    ) -> EncodedVideo:
        """Do the part that needs no question: vision, nearly all of the work, once."""
        return self.engine.encode(path, on_progress)

    @overload
    def query(  # type: ignore[overload-overlap]  # a str is one text, not a sequence of them
        self, video: Video, text: str, *, on_progress: OnProgress | None = None
    ) -> GroundingResult: ...
    @overload
    def query(
        self, video: Video, text: Sequence[str], *, on_progress: OnProgress | None = None
    ) -> list[GroundingResult]: ...
    def query(
        self, video: Video, text: str | Sequence[str], *, on_progress: OnProgress | None = None
    ) -> GroundingResult | list[GroundingResult]:
        """Find when something happens.

        Args:
            video: a file, or what `encode` returned.
            text: what to look for ("a player scores"), or several such texts.

        Returns:
            One result, or one per text in their order.

        Raises:
            VideoError: if the file cannot be read. InputError: if a text is empty.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise InputError("0 queries given; give at least one text to look for")
        prompts = [chat_prompt(grounding_question(query)) for query in texts]
        answers = self.engine.answer(video, prompts, on_progress=on_progress)
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
        """Query videos, several at once; give the results in the order of the paths.

        Work goes on only while results are asked for, and on at most `engine.sizes.videos` files
        at a time.

        Args:
            text: what to look for in each of them, or several such texts.
            on_error: called with a file that fails, which is then left out, and with the error:
                an InternalError if it was a mistake of the program. Without it the original
                exception is raised and the iteration ends.

        Returns:
            For every video one result per text.
        """
        texts = [text] if isinstance(text, str) else list(text)

        def query(path: str | PathLike[str]) -> list[GroundingResult]:
            return self.query(path, texts, on_progress=on_progress)

        yield from self.engine.each(paths, query, on_error)

    def ask(
        self,
        video: Video,
        question: str,
        *,
        about: Sequence[tuple[float, float]] = (),
        on_progress: OnProgress | None = None,
    ) -> GroundingResult:
        """Ask a free question; the answer comes with the moments that it rests on.

        Args:
            question: as the model shall read it. `<evi>` in it refers to the intervals in
                `about`, in order ("what happens in <evi>?").
            about: (start_s, end_s) in seconds, one for every `<evi>` of the question.

        Returns:
            The answer of the window whose evidence scores best; see `GroundingResult`.
        """
        prompt = chat_prompt(question, references=len(about))
        answers = self.engine.answer(video, [prompt], spans_s=about, on_progress=on_progress)
        result = self._result(question, prompt, answers, 0)
        spans = tuple((float(start), float(end)) for start, end in about)
        return replace(result, provenance=replace(result.provenance, about_s=spans))

    def _result(self, query: str, prompt: Prompt, answers: Answers, index: int) -> GroundingResult:
        """One timeline out of what every window answered to one prompt."""
        config = self.engine.model.config
        readings = read_answers(
            answers, index, self.engine.tokenizers, evidence_stage=config.evidence_stage
        )
        share = config.evidence_threshold
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
                "truncated": any(reading.generation.truncated for reading in readings),
                "damaged_packets": answers.info.damaged_packets,
            },
        )

    def _provenance(self, prompt: Prompt, answers: Answers) -> Provenance:
        provenance = self.engine.provenance(prompt.question, answers)
        settings = {**provenance.settings, "max_moments": self.grounding.max_moments}
        return replace(provenance, settings=settings)


def moment_spans(reading: Reading, *, share: float) -> list[tuple[int, int, float]]:
    """Every peak of every evidence curve of an answer, as samples of the whole video."""
    start = reading.window.start
    return [
        (start + first, start + last, score)
        for evidence in reading.referred
        for first, last, score in peaks(evidence.curve, threshold=share)
    ]


def peaks(curve: torch.Tensor, *, threshold: float) -> list[tuple[int, int, float]]:
    """Runs of relevant frames as (first, last, mean relevance), in the order of time.

    The run with the highest mean is the interval that the model itself speaks of
    (`evidence.best_interval`); the others are further moments of the same query.

    Args:
        curve: (T,) relevance. threshold: share of the highest value, in (0, 1].
    """
    means, survivor = run_means(
        curve[None], torch.ones_like(curve[None], dtype=torch.bool), threshold=threshold
    )
    runs: list[tuple[int, int, float]] = []
    for frame, (mean, kept) in enumerate(zip(means[0].tolist(), survivor[0].tolist(), strict=True)):
        if kept and runs and runs[-1][1] == frame - 1:
            runs[-1] = (runs[-1][0], frame, mean)
        elif kept:
            runs.append((frame, frame, mean))
    return runs


def _relevance(answers: Answers, readings: Sequence[Reading]) -> Relevance:
    """Per sample the highest relevance to any evidence that the answer refers to.

    An answer without evidence still has a curve: that of the position where it began.
    """
    curves = []
    for reading in readings:
        evidence = [item.curve for item in reading.referred]
        curve = torch.stack(evidence).amax(0) if evidence else reading.generation.prompt_curve
        curves.append(curve.tolist())
    # A question about given intervals is asked on one window, and the curve covers that one.
    first = answers.windows[0].start
    values = merge_curves(answers.windows, curves) if len(curves) > 1 else curves[0]
    return Relevance(answers.times_s[first : first + len(values)], tuple(values))
