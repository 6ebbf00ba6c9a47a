"""Answer a benchmark's questions with a model, in the form that the benchmark scores.

Questions on one video are answered together, from one encoding of it. Knows neither the format of
annotation files nor how answers are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack

from vidground.errors import CheckpointError, InputError
from vidground.faults import told
from vidground.features.encoded_video import EncodedVideo
from vidground.features.windows import WindowEvent, distinct_spans, merge_events
from vidground.inference.answers import Answers, Reading, answer_notes
from vidground.inference.engine import Engine
from vidground.inference.inference_settings import InferenceOptions, InferenceSettings
from vidground.inference.moments import moment_spans, window_events
from vidground.inference.provenance import weight_bits
from vidground.language.prompts import Prompt, chat_prompt
from vidground.language.response_parsing import format_interval, released_text
from vidground.model.d2vlm import D2VLM
from vidground.model.weight_digests import sampled_digest
from vidground.settings import GroundingSettings
from vidground.training.data.video_folders import VideoFolders
from vidground.training.evaluation.etbench_predictions import CAPTION_TASKS, OPTION_TASKS
from vidground.training.evaluation.prediction_lines import Line
from vidground.training.evaluation.prediction_store import PredictionFolder
from vidground.training.evaluation.questions import OPTION_PENALTY, Question, by_video
from vidground.version import __version__

_OPTION_LEAD = "Best Option: ("
"""E.T. Chat's released evaluation begins the answers of multiple-choice tasks with this."""
_LIST_TASKS = ("tal", "evs")

OnFailure = Callable[[str, str], None]
"""Called with a video and the reason when questions on it get no answer."""


class Predictor:
    """A model that answers benchmark questions.

    Args:
        model: a known name, a folder, a hub id, or a loaded `D2VLM`.
        grounding: score from which a moment counts as found, and the number of moments kept.
        option_penalty: repetition penalty of E.T. Bench's multiple-choice tasks, which replaces
            that of `decoding`.
        options: as of `Grounder`.

    Raises:
        CheckpointError: the model cannot be found or loaded.
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        model: str | Path | D2VLM,
        *,
        grounding: GroundingSettings = GroundingSettings(),
        option_penalty: float = OPTION_PENALTY,
        **options: Unpack[InferenceOptions],
    ) -> None:
        settings = InferenceSettings.of(options)
        self._engine = Engine(model, settings)
        of_options = replace(settings.decoding, repetition_penalty=option_penalty)
        self._option_engine = Engine(
            self._engine.model,
            InferenceSettings(
                sampling=settings.sampling,
                decoding=of_options,
                batch=settings.batch,
                vision=self._engine.vision,
            ),
        )
        self._grounding = grounding

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that changes a prediction, as JSON values; batch sizes and devices do not."""
        model = self._engine.model
        return {
            "model": str(model.name_or_path),
            "revision": getattr(model.config, "_commit_hash", None),
            "weights": sampled_digest(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "vidground": __version__,
            "sampling": self._engine.sampling.recorded(),
            "decoding": asdict(self._engine.decoding),
            "option_penalty": self._option_engine.decoding.repetition_penalty,
            "grounding": asdict(self._grounding),
            **weight_bits(self._engine.model),
            **self._vision,
        }

    @property
    def _vision(self) -> dict[str, str]:
        """What encodes frames in place of the model, if anything does."""
        engine = self._engine
        return {} if engine.vision is engine.model else {"vision": str(engine.vision)}

    def answer(self, path: Path, questions: Sequence[Question]) -> Iterator[tuple[Question, Line]]:
        """Yield each question on one video with the fields that its prediction adds.

        These are `a`, the response with evidence as `start - end` in seconds (empty if there is an
        `error`); `moments`, [start_s, end_s, score] of every moment, best first, whatever its
        score; `found`, whether the best one reaches the threshold; `staged`, false for a model
        that matches frames, which answers at once; and `warnings`.

        Args:
            path: of the video.
            questions: any number, of any tasks.

        Raises:
            CheckpointError: the model cannot be used at all.
        """
        asks = _asks_together(questions)
        video: Path | EncodedVideo = path
        try:
            # Several rounds of questions share one encoding; a single round need not keep it.
            video = self._engine.encode(path) if len(asks) > 1 else path
        except Exception as error:  # noqa: BLE001 - reported in the lines, or raised again
            yield from _failed(questions, error)
            return
        for ask in asks:
            yield from self._answer_round(video, ask)

    def _answer_round(
        self, video: Path | EncodedVideo, questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Line]]:
        """Answer questions with the same intervals and decoding settings."""
        first = questions[0]
        engine = self._option_engine if first.task in OPTION_TASKS else self._engine
        try:
            prompts = [self._prompt(question) for question in questions]
            answers = engine.answer(video, prompts, spans_s=first.spans_s)
        except Exception as error:  # noqa: BLE001 - reported in the lines, or raised again
            if isinstance(error, InputError) and len(questions) > 1:
                for question in questions:  # so that only the unsuitable ones fail
                    yield from self._answer_round(video, [question])
            else:
                yield from _failed(questions, error)
            return
        for index, question in enumerate(questions):
            yield question, self._line(question, answers, index)

    def _prompt(self, question: Question) -> Prompt:
        prompt = chat_prompt(question.text, references=len(question.spans_s))
        if question.task in OPTION_TASKS and self._engine.model.config.matches:
            return replace(prompt, after=prompt.after + _OPTION_LEAD)
        return prompt

    def _line(self, question: Question, answers: Answers, index: int) -> Line:
        readings = self._engine.read(answers, index)
        share = self._engine.model.config.evidence_threshold
        per_window = [moment_spans(reading, share=share) for reading in readings]
        spans = distinct_spans([span for found in per_window for span in found])
        spans = spans[: self._grounding.max_moments]
        line: dict[str, Any] = {
            "a": self._response(question.task, answers, readings, per_window),
            "found": any(score >= self._grounding.found_threshold for *_, score in spans),
            "moments": [[*answers.seconds(a, b), score] for a, b, score in spans],
        }
        if self._engine.model.config.matches:
            line["staged"] = False
        warnings = [*answers.warnings, *answer_notes(answers, readings)]
        return line | ({"warnings": warnings} if warnings else {})

    def _response(
        self,
        task: str,
        answers: Answers,
        readings: Sequence[Reading],
        per_window: Sequence[Sequence[tuple[int, int, float]]],
    ) -> str:
        """Return one response from the answers of all windows."""
        if len(readings) > 1 and task in (*CAPTION_TASKS, *_LIST_TASKS):
            staged = not self._engine.model.config.matches
            return _merged_response(task, answers, readings, staged=staged)
        scores = [max((score for *_, score in spans), default=-1.0) for spans in per_window]
        best = readings[scores.index(max(scores))]
        tokenizers = self._engine.tokenizers
        return released_text(
            best.token_ids,
            best.times_s,
            ids=tokenizers.ids,
            decode=tokenizers.decode,
            evidence_stage=self._engine.model.config.evidence_stage,
        )


def predict(
    predictor: Predictor,
    questions: Sequence[Question],
    videos: str | Path,
    folder: PredictionFolder,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_failure: OnFailure | None = None,
) -> int:
    """Answer all questions that have no answer in `folder` yet, video by video.

    Args:
        predictor: the model.
        questions: any number, of any tasks.
        videos: the folder that the questions' videos are relative to. A video may have another
            suffix than its question says.
        folder: where answers are looked up and written.
        on_progress: called after each question with the number done and the number of all.
        on_failure: called once per video and reason.

    Returns:
        The number of questions that got no answer.
    """
    waiting, folders = folder.waiting(questions), VideoFolders([Path(videos)])
    done, failures = len(questions) - len(waiting), 0
    for video, asked in by_video(waiting).items():
        reasons = set()
        path = folders.find(video) or folders.expected(video)
        for question, line in predictor.answer(path, asked):
            folder.append(question, line)
            done += 1
            if "error" in line:
                failures += 1
                reasons.add(line["error"])
            if on_progress is not None:
                on_progress(done, len(questions))
        if on_failure is not None:
            for reason in sorted(reasons):
                on_failure(video, reason)
    return failures


def _failed(questions: Sequence[Question], error: Exception) -> Iterator[tuple[Question, Line]]:
    """Yield lines without an answer; an error that would meet every other video is raised."""
    if isinstance(error, CheckpointError):
        raise error
    reason = told(error)
    for question in questions:
        yield question, {"a": "", "error": reason}


def _asks_together(questions: Sequence[Question]) -> list[list[Question]]:
    """Group the questions that one call of an engine can answer."""
    asks: dict[tuple[object, ...], list[Question]] = {}
    for question in questions:
        asks.setdefault((question.task in OPTION_TASKS, question.spans_s), []).append(question)
    return list(asks.values())


def _merged_response(
    task: str, answers: Answers, readings: Sequence[Reading], *, staged: bool
) -> str:
    """Return the events of several windows, merged, in the form of one window's response."""
    per_window = [
        window_events(reading) if task in CAPTION_TASKS else _interval_events(reading)
        for reading in readings
    ]
    parts = []
    for event in merge_events(answers.windows, per_window):
        start_s, end_s = answers.seconds(event.first, event.last)
        parts.append((format_interval(start_s, end_s).removesuffix(" s"), event.text))
    evidence = " ".join(interval for interval, _ in parts)
    if task in CAPTION_TASKS:
        text = " ".join(f"{interval} , {caption}." for interval, caption in parts)
    else:
        text = " , ".join(interval for interval, _ in parts)
    return f"{evidence} </evi> {text}".strip() if staged else text


def _interval_events(reading: Reading) -> list[WindowEvent]:
    """Return the intervals that an answer names; distinct texts keep those of one window apart."""
    start = reading.window.start
    return [
        WindowEvent(start + item.first, start + item.last, f"{start}:{item.position}", 0.0)
        for item in reading.referred
    ]
