"""Annotations as training samples: texts become token ids, seconds become frames.

Which annotations are too long to train on is decided here too. Where frames come from is the
matter of a frame source (`vidground.training.data.frame_sources`); what becomes of samples, that of
`vidground.training.data.collation`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from vidground.errors import InputError, VidgroundError
from vidground.language.prompts import Prompt, chat_prompt_from_turn, encode_prompt
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
    TrainingPrompt,
    frame_spans,
)

FrameSource = Callable[[Path, Sequence[int]], Tensor]
"""Gives the sampled frames of a video file that is asked a question, in the ids of the Q-Former's
tokenizer: pixels, patch features or frame tokens, see `TrainingPrompt`."""

Sample = SftSample | PreferenceSample


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """Which annotations are trained on; the defaults are the released ones.

    min_video_s, max_video_s: duration, as annotated. max_answer_words: words of the answer to
    imitate, counted by single spaces. max_tokens: of a prompt with its frames and an answer.
    """

    min_video_s: float = 5.0
    max_video_s: float = 350.0
    max_answer_words: int = 200
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if not 0 <= self.min_video_s <= self.max_video_s:
            raise InputError(
                f"videos of {self.min_video_s} to {self.max_video_s} s are asked for; needs "
                "0 <= min_video_s <= max_video_s"
            )
        for name in ("max_answer_words", "max_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Selection:
    """Annotations to train on, and how many others were dropped, by reason."""

    kept: tuple[Annotation, ...]
    dropped: Mapping[str, int]


def within_limits(
    annotations: Sequence[Annotation],
    limits: SampleLimits = SampleLimits(),
    *,
    tokenizers: Tokenizers | None = None,
    fps: float = 1.0,
) -> Selection:
    """Drop what is too short or too long to train on, and count it by reason.

    tokenizers: None leaves `max_tokens` unchecked.
    """
    kept: list[Annotation] = []
    dropped: Counter[str] = Counter()
    for annotation in annotations:
        reason = _beyond(annotation, limits, tokenizers, fps)
        if reason is None:
            kept.append(annotation)
        else:
            dropped[reason] += 1
    return Selection(tuple(kept), dict(dropped))


class AnnotationDataset(Dataset[Sample]):
    """Samples of annotations: `PreferenceSample` of preference annotations, `SftSample` of others.

    The same index gives the same sample in every epoch and in every process.

    Args:
        video_root: folder that the annotations' videos are relative to.
        frames: gives the frames of a video, `fps` of them for each of its seconds.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        tokenizers: Tokenizers,
        frames: FrameSource,
        *,
        video_root: str | Path,
        fps: float = 1.0,
    ) -> None:
        self.annotations = tuple(annotations)
        self._tokenizers = tokenizers
        self._frames = frames
        self._root = Path(video_root)
        self._fps = fps

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        """The sample, or AnnotationError: its video cannot be read, its text not be encoded."""
        annotation = self.annotations[index]
        try:
            frames = self._frames(*self._asked(annotation))
            return make_sample(annotation, frames, self._tokenizers, fps=self._fps)
        except VidgroundError as error:
            raise AnnotationError(
                f"{annotation.file}: sample {annotation.index}: {error}"
            ) from error

    def asked(self) -> list[tuple[Path, Sequence[int]]]:
        """Every video with every question that it is asked, each once, videos in order."""
        found = {(path, tuple(ids)) for path, ids in map(self._asked, self.annotations)}
        return sorted(found)

    def _asked(self, annotation: Annotation) -> tuple[Path, Sequence[int]]:
        question = encode_prompt(_prompt(annotation), self._tokenizers).question
        return self._root / annotation.video, question


def make_sample(
    annotation: Annotation, frames: Tensor, tokenizers: Tokenizers, *, fps: float = 1.0
) -> Sample:
    """The sample of an annotation and its video's frames.

    Args:
        frames: (T, 3, S, S) pixels, (T, patches, width) patch features or (T, H) frame tokens.
        fps: their rate.
    """
    prompt = _prompt(annotation)
    ids = encode_prompt(prompt, tokenizers)
    training_prompt = TrainingPrompt(
        before=ids.before,
        after=ids.after,
        question=ids.question,
        frames=frames,
        spans=frame_spans(annotation.src, fps=fps),
    )
    response = _response(annotation.response, prompt, tokenizers, fps)
    if not isinstance(annotation, PreferenceAnnotation):
        return SftSample(training_prompt, response)
    rejected = _response(annotation.rejected, prompt, tokenizers, fps)
    return PreferenceSample(training_prompt, response, rejected)


def response_ids(text: str, prompt: Prompt, tokenizers: Tokenizers) -> list[int]:
    """Token ids of a response and of the token that ends it, as they follow on the prompt.

    Prompt and response are encoded together, for some tokenizers treat the start of a text in
    another way than its middle.
    """
    start = tokenizers.encode(prompt.after)
    whole = tokenizers.encode(prompt.after + text + TURN_END)
    if whole[: len(start)] != start:
        raise InputError(
            "the language tokenizer joins the end of a prompt with the start of its answer; "
            "use one whose <|assistant|> takes the line break that follows it"
        )
    return whole[len(start) :]


def _prompt(annotation: Annotation) -> Prompt:
    references = annotation.question.count(EVIDENCE)
    return chat_prompt_from_turn(annotation.question, references=references)


def _response(
    annotated: AnnotatedResponse, prompt: Prompt, tokenizers: Tokenizers, fps: float
) -> Response:
    return Response(
        response_ids(annotated.text, prompt, tokenizers), frame_spans(annotated.tgt, fps=fps)
    )


def _beyond(
    annotation: Annotation, limits: SampleLimits, tokenizers: Tokenizers | None, fps: float
) -> str | None:
    """The limit that an annotation is beyond, in words; None if it is within all."""
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
    """Length of a prompt, its frames and the longer of its responses."""
    prompt = _prompt(annotation)
    texts = [annotation.response.text]
    if isinstance(annotation, PreferenceAnnotation):
        texts.append(annotation.rejected.text)
    frames = math.ceil(annotation.duration_s * fps)
    around = len(tokenizers.encode(prompt.before)) + len(tokenizers.encode(prompt.after))
    return around + frames + max(len(response_ids(t, prompt, tokenizers)) for t in texts)
