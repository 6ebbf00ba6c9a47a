"""Check one annotated sample after the other, with the draws that released training data had."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidground.errors import InputError
from vidground.language.prompts import FRAMES
from vidground.training.data.annotation_fields import (
    FieldError,
    check_prompt,
    check_response,
    duration_of,
    label_of,
    seconds_of,
    turns_of,
    video_of,
)
from vidground.training.data.annotation_types import (
    AnnotatedResponse,
    Annotation,
    Kind,
    PreferenceAnnotation,
    RejectedResponse,
)
from vidground.training.data.perturbation import CHOSEN, factor_of
from vidground.training.data.video_folders import VideoFolders


class MissingVideoError(FieldError):
    """A sound sample whose video is in none of the folders."""

    def __init__(self, annotation: Annotation, folders: VideoFolders) -> None:
        super().__init__(f"video is {annotation.video!r}; there is no such file in {folders}")
        self.annotation = annotation


@dataclass(frozen=True)
class SampleReader:
    """Checks samples of one kind, drawing from its generators for each in turn.

    Attributes:
        folders: of the videos; None to leave open whether they exist.
        kind: "sft" or "fpo".
        draw: source of the drawn rejected variants.
        place: source of the places of frames; None for always first.
        strict: whether empty lists of times are faults.
    """

    folders: VideoFolders | None
    kind: Kind
    draw: random.Random
    place: random.Random | None
    strict: bool

    @classmethod
    def of(
        cls,
        video_root: str | Path | Sequence[str | Path] | None,
        kind: Kind,
        seed: int,
        placement_seed: int | None,
        *,
        strict: bool = False,
    ) -> SampleReader:
        """Return a reader with fresh generators; see `annotations.check_annotations`."""
        roots = [video_root] if isinstance(video_root, str | Path) else list(video_root or ())
        return cls(
            folders=VideoFolders([Path(root) for root in roots]) if roots else None,
            kind=kind,
            draw=random.Random(seed),
            place=None if placement_seed is None else random.Random(placement_seed),
            strict=strict,
        )

    def annotation(self, file: Path, index: int, sample: Any) -> Annotation:
        """Return a checked sample.

        Raises:
            MissingVideoError: only its video is missing.
            FieldError: a field is wrong.
        """
        if not isinstance(sample, dict):
            raise FieldError(f"is {type(sample).__name__}; a sample is an object")
        conversations = sample.get("conversations")
        names = self._variant_names(conversations)
        # Drawn before anything is checked, so that a broken sample does not change the others'.
        drawn = self.draw.sample(range(len(names)), 1)[0] if names else 0
        if self.strict:
            _refuse_empty_lists(sample)
        question, answer = turns_of(_of_variant(conversations, CHOSEN), "conversations")
        video = video_of(sample)
        found = None if self.folders is None else self.folders.find(video)
        expected = Path(video) if self.folders is None else self.folders.expected(video)
        common = Annotation(
            file=file,
            index=index,
            task=label_of(sample, "task"),
            source=label_of(sample, "source"),
            video=video,
            path=found or expected,
            duration_s=duration_of(sample),
            question=self._placed(question),
            src=seconds_of(_of_variant(sample.get("src"), CHOSEN), "src"),
            response=AnnotatedResponse(
                answer, seconds_of(_of_variant(sample.get("tgt"), CHOSEN), "tgt")
            ),
        )
        check_prompt(common.question, common.src, common.duration_s)
        check_response(answer, common.response.tgt, common.duration_s, "the answer")
        if self.kind == "fpo":
            variants = tuple(_variant(sample, name, question, common) for name in names)
            common = PreferenceAnnotation(
                **{name: getattr(common, name) for name in Annotation.__slots__},
                variants=variants,
                drawn=drawn,
            )
        if found is None and self.folders is not None:
            raise MissingVideoError(common, self.folders)
        return common

    def _variant_names(self, conversations: Any) -> list[str]:
        if self.kind == "sft":
            if isinstance(conversations, dict):
                raise FieldError("conversations is an object, as in preference data (kind 'fpo')")
            return []
        if not isinstance(conversations, dict):
            raise FieldError(
                f"conversations is {type(conversations).__name__}; in preference data it is an "
                f"object of {CHOSEN!r} and its rejected variants"
            )
        names = [name for name in conversations if name != CHOSEN]
        if CHOSEN not in conversations or not names:
            raise FieldError(
                f"conversations has {sorted(conversations)}; it needs {CHOSEN!r} and at least one "
                "rejected variant"
            )
        return names

    def _placed(self, question: str) -> str:
        """Return the question with its frames placed before or after it, if asked for."""
        if self.place is None or FRAMES in question:
            return question
        first = self.place.randint(0, 1) == 0
        return f"{FRAMES}\n{question}" if first else f"{question}\n{FRAMES}"


def _variant(
    sample: dict[str, Any], name: str, question: str, common: Annotation
) -> RejectedResponse:
    where = f"variant {name!r}"
    try:
        factor_of(name)
    except InputError as error:
        raise FieldError(str(error)) from error
    asked, answer = turns_of(sample["conversations"][name], where)
    if asked != question:
        raise FieldError(f"{where} has another question; it must be that of the chosen response")
    tgt = seconds_of(_of_variant(sample.get("tgt"), name), f"tgt of {where}")
    check_response(answer, tgt, common.duration_s, where)
    if AnnotatedResponse(answer, tgt) == common.response:
        raise FieldError(f"{where} equals the chosen response; a pair must differ")
    return RejectedResponse(answer, tgt, name)


def _of_variant(value: Any, name: str) -> Any:
    """Return what an object says of a variant; any other value holds for all of them."""
    return value.get(name) if isinstance(value, dict) else value


def _refuse_empty_lists(sample: dict[str, Any]) -> None:
    for name in ("src", "tgt"):
        if sample.get(name) == []:
            raise FieldError(f"{name} is an empty list; leave it out, or name the intervals")
