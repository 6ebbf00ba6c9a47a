"""Annotations as training samples: texts become token ids, seconds become frames.

Also decides which annotations are within the limits of training. Frames come from a frame source
(`vidground.training.data.frame_sources`); `vidground.training.data.collation` makes batches.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from vidground.errors import InputError, VidgroundError
from vidground.language.prompts import Prompt, chat_prompt_from_turn, encode_prompt
from vidground.language.spoken_times import matched_answer, matched_prompt
from vidground.language.tokenizers import EVIDENCE, TURN_END, Tokenizers
from vidground.training.data.annotations import (
    AnnotatedResponse,
    Annotation,
    AnnotationError,
    PreferenceAnnotation,
)
from vidground.training.data.samples import (
    PreferenceSample,
    Response,
    SftSample,
    Span,
    TrainingPrompt,
    frame_spans,
)

FrameSource = Callable[[Path, Sequence[int]], Tensor]
"""Returns the sampled frames of a video file for a question in ids of the Q-Former's tokenizer:
pixels, patch features or frame tokens, see `TrainingPrompt`."""

Sample = SftSample | PreferenceSample


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """Which annotations are trained on; the defaults are the released ones.

    Attributes:
        min_video_s: shortest video, as annotated, in seconds.
        max_video_s: longest video, as annotated, in seconds.
        max_answer_words: most words of the answer to imitate, separated by single spaces.
        max_tokens: most tokens of a prompt with its frames and an answer.
    """

    min_video_s: float = 5.0
    max_video_s: float = 350.0
    max_answer_words: int = 200
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if not 0 <= self.min_video_s <= self.max_video_s:
            raise InputError(
                f"min_video_s is {self.min_video_s} and max_video_s {self.max_video_s}; needs "
                "0 <= min_video_s <= max_video_s"
            )
        for name in ("max_answer_words", "max_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of annotations.

    Attributes:
        kept: annotations to train on.
        dropped: number of the others, by reason.
    """

    kept: tuple[Annotation, ...]
    dropped: Mapping[str, int]


def within_limits(
    annotations: Sequence[Annotation],
    limits: SampleLimits = SampleLimits(),
    *,
    tokenizers: Tokenizers | None = None,
    fps: float = 1.0,
) -> Selection:
    """Drop annotations that are too short or too long to train on, and count them by reason.

    Args:
        annotations: to choose from.
        limits: see there.
        tokenizers: None leaves `max_tokens` unchecked.
        fps: sampled frames per second.
    """
    kept: list[Annotation] = []
    dropped: Counter[str] = Counter()
    for annotation in annotations:
        reason = _exceeded_limit(annotation, limits, tokenizers, fps)
        if reason is None:
            kept.append(annotation)
        else:
            dropped[reason] += 1
    return Selection(tuple(kept), dict(dropped))


def weighted(annotations: Sequence[Annotation], weight: float, *, seed: int) -> list[Annotation]:
    """Return the annotations of a data set as often as its weight says, in order.

    Args:
        annotations: of one data set.
        weight: how often each is seen in an epoch, above 0. The fraction of a weight is a random
            share of the annotations: 2.25 takes each twice, and a quarter of them a third time.
        seed: of the draw of that share.
    """
    times = int(weight)
    extra = round((weight - times) * len(annotations))
    drawn = set(random.Random(seed).sample(range(len(annotations)), extra))
    return [
        annotation
        for index, annotation in enumerate(annotations)
        for _ in range(times + (index in drawn))
    ]


class AnnotationDataset(Dataset[Sample]):
    """Samples of annotations: `PreferenceSample` of preference annotations, `SftSample` of others.

    The same index gives the same sample in every epoch and in every process.

    Args:
        annotations: with the paths of their videos.
        tokenizers: of the model to train.
        frames: returns the frames of a video.
        fps: frames for each second of video.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        tokenizers: Tokenizers,
        frames: FrameSource,
        *,
        fps: float = 1.0,
    ) -> None:
        self.annotations = tuple(annotations)
        self._tokenizers = tokenizers
        self._frames = frames
        self._fps = fps

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample.

        Raises:
            AnnotationError: its video cannot be read, or its text cannot be encoded.
        """
        annotation = self.annotations[index]
        try:
            frames = self._frames(*self._asked(annotation))
            return make_sample(annotation, frames, self._tokenizers, fps=self._fps)
        except VidgroundError as error:
            raise AnnotationError(
                f"{annotation.file}: sample {annotation.index}: {error}"
            ) from error

    def asked(self) -> list[tuple[Path, Sequence[int]]]:
        """Return every video with every question about it, in token ids; each once, sorted."""
        found = {(path, tuple(ids)) for path, ids in map(self._asked, self.annotations)}
        return sorted(found)

    def _asked(self, annotation: Annotation) -> tuple[Path, Sequence[int]]:
        prompt, _ = spoken_prompt(annotation, self._tokenizers)
        question = encode_prompt(prompt, self._tokenizers).question
        return annotation.path, question


def make_sample(
    annotation: Annotation, frames: Tensor, tokenizers: Tokenizers, *, fps: float = 1.0
) -> Sample:
    """Return the sample of an annotation and its video's frames.

    Args:
        annotation: with one answer, or with a chosen and a rejected one.
        frames: (T, 3, S, S) pixels, (T, patches, width) patch features or (T, H) frame tokens.
        tokenizers: of the model to train.
        fps: rate of the frames.

    Raises:
        InputError: a text cannot be encoded, or times and `<evi>` do not match.
    """
    prompt, spans = spoken_prompt(annotation, tokenizers, fps=fps)
    ids = encode_prompt(prompt, tokenizers)
    training_prompt = TrainingPrompt(
        before=ids.before,
        after=ids.after,
        question=ids.question,
        frames=frames,
        spans=spans,
    )
    response = _response(annotation.response, prompt, tokenizers, fps)
    if not isinstance(annotation, PreferenceAnnotation):
        return SftSample(training_prompt, response)
    rejected = _response(annotation.rejected, prompt, tokenizers, fps)
    return PreferenceSample(training_prompt, response, rejected)


def response_ids(text: str, prompt: Prompt, tokenizers: Tokenizers) -> list[int]:
    """Return the token ids of a response and its end-of-turn token, as they follow the prompt.

    Prompt and response are encoded together, because some tokenizers treat the start of a text
    differently from its middle.

    Raises:
        InputError: the tokenizer joins the end of the prompt with the start of the response.
    """
    start = tokenizers.encode(prompt.after)
    whole = tokenizers.encode(prompt.after + text + TURN_END)
    if whole[: len(start)] != start:
        raise InputError(
            "the language tokenizer joins the end of a prompt with the start of its answer; "
            "use one whose <|assistant|> takes the line break that follows it"
        )
    return whole[len(start) :]


def spoken_prompt(
    annotation: Annotation, tokenizers: Tokenizers, *, fps: float = 1.0
) -> tuple[Prompt, Sequence[Span]]:
    """Return an annotation's prompt as the model expresses times, and the span of each time token.

    Args:
        annotation: with `<evi>` in its question.
        tokenizers: of the model.
        fps: frames per second of the spans.
    """
    references = annotation.question.count(EVIDENCE)
    prompt = chat_prompt_from_turn(annotation.question, references=references)
    spans = frame_spans(annotation.src, fps=fps)
    if tokenizers.time_tokens == "matching":
        return matched_prompt(prompt, spans)
    return prompt, spans


def spoken_answer(
    annotated: AnnotatedResponse, tokenizers: Tokenizers, *, fps: float = 1.0
) -> tuple[str, Sequence[Span]]:
    """As `spoken_prompt`, for an annotated response."""
    spans = frame_spans(annotated.tgt, fps=fps)
    if tokenizers.time_tokens == "matching":
        return matched_answer(annotated.text, spans)
    return annotated.text, spans


def _response(
    annotated: AnnotatedResponse, prompt: Prompt, tokenizers: Tokenizers, fps: float
) -> Response:
    text, spans = spoken_answer(annotated, tokenizers, fps=fps)
    return Response(response_ids(text, prompt, tokenizers), spans)


def _exceeded_limit(
    annotation: Annotation, limits: SampleLimits, tokenizers: Tokenizers | None, fps: float
) -> str | None:
    """Return the limit that an annotation exceeds, in words; None if it is within all."""
    if annotation.duration_s < limits.min_video_s:
        return f"videos shorter than {limits.min_video_s:g} s"
    if annotation.duration_s > limits.max_video_s:
        return f"videos longer than {limits.max_video_s:g} s"
    if len(annotation.response.text.split(" ")) > limits.max_answer_words:
        return f"answers of more than {limits.max_answer_words} words"
    if tokenizers is not None and _tokens(annotation, tokenizers, fps) > limits.max_tokens:
        return f"sequences of more than {limits.max_tokens} tokens"
    return None


def _tokens(annotation: Annotation, tokenizers: Tokenizers, fps: float) -> int:
    """Return the length of a prompt, its frames and the longer of its responses."""
    prompt, _ = spoken_prompt(annotation, tokenizers)
    responses = [annotation.response]
    if isinstance(annotation, PreferenceAnnotation):
        responses.append(annotation.rejected)
    texts = [spoken_answer(response, tokenizers)[0] for response in responses]
    frames = math.ceil(annotation.duration_s * fps)
    around = len(tokenizers.encode(prompt.before)) + len(tokenizers.encode(prompt.after))
    return around + frames + max(len(response_ids(t, prompt, tokenizers)) for t in texts)
