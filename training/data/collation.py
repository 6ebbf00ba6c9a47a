"""Collation of samples to padded batches, with a column for every token. All on the CPU.

`vidground.training.objectives.batches` explains the layout. Knows neither model nor losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidground.errors import InputError
from vidground.model.configuration import D2VLMConfig
from vidground.model.evidence import interval_frames
from vidground.training.data.samples import (
    PreferenceSample,
    Response,
    SftSample,
    Span,
    TrainingPrompt,
    evidence_places,
    match_places,
    without_evidence_stage,
)
from vidground.training.objectives.batches import (
    EvidenceInputs,
    LossCounts,
    ResponseTargets,
    TrainingBatch,
)
from vidground.training.objectives.settings import SftSettings

Sample = SftSample | PreferenceSample
Places = list[tuple[int, Span]]
"""Columns of `<evi>` tokens with their intervals, in frames."""


@dataclass(frozen=True)
class Collator:
    """Makes a batch of samples of one kind.

    Attributes:
        time_token_id: of `<evi>` or `<vid>`.
        evidence_end_token_id: of `</evi>`; None for a model that matches frames.
        evidence_stage: False leaves the evidence stage out of every response (the coupled baseline
            of the paper's ablation).
    """

    time_token_id: int
    evidence_end_token_id: int | None
    evidence_stage: bool = True

    @classmethod
    def of(cls, config: D2VLMConfig, settings: SftSettings) -> Collator:
        """Return the collator for a model and an objective; for FPO, with its `sft` settings."""
        end = None if config.matches else config.evidence_end_token_id
        return cls(config.time_token_id, end, settings.evidence_stage)

    def __call__(self, samples: Sequence[Sample]) -> TrainingBatch:
        """Return B samples as a batch with N frames in all.

        A row holds the prefix (text before the frames, then the frames), padded to the longest; the
        text after the frames; the chosen response; and for preferences the rejected one. Columns
        beyond the end of a row are padding.

        Returns:
            `frames` (N, ...), `frame_columns` (B, T), `token_ids`, `position_ids`, `branch` and
            `real` (B, width), where `branch` is 0 for the prompt, 1 for the chosen and 2 for the
            rejected response; see `TrainingBatch` for the rest.

        Raises:
            InputError: there is no sample, `<evi>` tokens and intervals of a sample do not match,
                or samples have different kinds of frames.
        """
        _check_alike(samples)
        prefix_length = max(_prefix_length(sample.prompt) for sample in samples)
        rows = [self._row(sample, prefix_length) for sample in samples]
        matches = self.evidence_end_token_id is None
        return _joined(samples, rows, prefix_length, matches=matches)

    def _row(self, sample: Sample, prefix_length: int) -> _Row:
        prompt = sample.prompt
        prefix = _prefix_length(prompt)
        before = _Segment(0, 0, [*prompt.before, *[0] * prompt.frames.shape[0]])
        after = _Segment(prefix_length, prefix, prompt.after)
        replies: list[_Reply] = []
        for branch, response in enumerate(sample.responses, start=1):
            column = replies[-1].segment.stop if replies else after.stop
            last = (after if prompt.after else before).columns[-1]
            replies.append(self._reply(response, column, prefix + len(prompt.after), branch, last))
        return _Row(
            segments=[before, after, *(reply.segment for reply in replies)],
            frame_columns=range(len(prompt.before), prefix),
            references=self._references(prompt, prefix_length),
            replies=replies,
        )

    def _references(self, prompt: TrainingPrompt, prefix_length: int) -> Places:
        text = [*enumerate(prompt.before), *enumerate(prompt.after, start=prefix_length)]
        columns = [column for column, token in text if token == self.time_token_id]
        if len(columns) != len(prompt.spans):
            raise InputError(
                f"a question has {len(columns)} time tokens and {len(prompt.spans)} intervals; it "
                "needs one interval for each time token"
            )
        return list(zip(columns, prompt.spans, strict=True))

    def _reply(
        self, response: Response, column: int, position: int, branch: int, last: int
    ) -> _Reply:
        """Lay out a response; `last` is the column of the prompt's last token."""
        response, stages = self._stages(response)
        segment = _Segment(column, position, response.token_ids, branch)
        predicted_from = [last, *segment.columns[:-1]]
        return _Reply(segment, predicted_from, stages, response.spans)

    def _stages(self, response: Response) -> tuple[Response, tuple[list[int], ...]]:
        """Return the response as it is trained on, and for each stage where its time tokens are."""
        token, end = self.time_token_id, self.evidence_end_token_id
        if end is None:
            return response, (match_places(response, match_id=token),)
        if self.evidence_stage:
            places = evidence_places(response, evidence_id=token, evidence_end_id=end)
            return response, places
        response, answer = without_evidence_stage(response, evidence_id=token, evidence_end_id=end)
        return response, (answer,)


@dataclass(frozen=True)
class _Segment:
    """Tokens in consecutive columns from `column`, with positions from `position`."""

    column: int
    position: int
    token_ids: Sequence[int]
    branch: int = 0

    @property
    def stop(self) -> int:
        return self.column + len(self.token_ids)

    @property
    def columns(self) -> range:
        return range(self.column, self.stop)


@dataclass(frozen=True)
class _Reply:
    """A response in its row.

    Attributes:
        segment: its tokens.
        predicted_from: the column that predicts each token.
        stages: for each stage, the indices of its K `<evi>` among the tokens.
        spans: the K intervals, in frames.
    """

    segment: _Segment
    predicted_from: Sequence[int]
    stages: Sequence[Sequence[int]]
    spans: Sequence[Span]

    @property
    def evidence(self) -> Places:
        return [
            (self.segment.columns[place], span)
            for stage in self.stages
            for place, span in zip(stage, self.spans, strict=True)
        ]

    def evidence_from(self, stage: int) -> list[int]:
        return [self.predicted_from[place] for place in self.stages[stage]]


@dataclass(frozen=True)
class _Row:
    segments: Sequence[_Segment]
    frame_columns: range
    references: Places
    replies: Sequence[_Reply]


def _check_alike(samples: Sequence[Sample]) -> None:
    if not samples:
        raise InputError("a batch has 0 samples; it needs at least 1")
    if len({len(sample.responses) for sample in samples}) > 1:
        raise InputError("a batch mixes samples with one and with two responses; use one kind")
    shapes = {tuple(sample.prompt.frames.shape[1:]) for sample in samples}
    kinds = {sample.prompt.frames.dtype for sample in samples}
    if len(shapes) > 1 or len(kinds) > 1:
        raise InputError(
            f"frames of a batch differ: shapes {sorted(shapes)}, types {sorted(map(str, kinds))}; "
            "give all as pixels, patch features or frame tokens of one size and type"
        )


def _prefix_length(prompt: TrainingPrompt) -> int:
    return len(prompt.before) + int(prompt.frames.shape[0])


def _joined(
    samples: Sequence[Sample], rows: Sequence[_Row], prefix_length: int, *, matches: bool
) -> TrainingBatch:
    frame_counts = tuple(len(row.frame_columns) for row in rows)
    question_ids, question_mask = _padded(sample.prompt.question for sample in samples)
    frame_columns, frame_mask = _padded(row.frame_columns for row in rows)
    width = max(segment.stop for row in rows for segment in row.segments)
    chosen = [row.replies[0] for row in rows]
    return TrainingBatch(
        frames=torch.cat([sample.prompt.frames for sample in samples]),  # (N, ...)
        frame_counts=frame_counts,
        question_ids=question_ids,
        question_mask=question_mask,
        token_ids=_laid_out(rows, width, lambda segment: segment.token_ids),  # (B, width)
        position_ids=_laid_out(
            rows, width, lambda s: range(s.position, s.position + len(s.token_ids))
        ),
        branch=_laid_out(rows, width, lambda s: [s.branch] * len(s.token_ids)),  # (B, width)
        real=_laid_out(rows, width, lambda s: [1] * len(s.token_ids)).bool(),  # (B, width)
        is_frame=_marked(width, frame_columns, frame_mask),  # (B, width)
        prefix_length=prefix_length,
        frame_columns=frame_columns,  # (B, T)
        frame_mask=frame_mask,  # (B, T)
        references=_evidence_inputs([row.references for row in rows], frame_counts),
        evidence=_evidence_inputs(
            [[place for reply in row.replies for place in reply.evidence] for row in rows],
            frame_counts,
        ),
        responses=tuple(
            _targets(replies, frame_counts if matches else None)
            for replies in zip(*(row.replies for row in rows), strict=True)
        ),
        counts=LossCounts(
            tokens=sum(len(reply.predicted_from) for reply in chosen),
            grounded=sum(bool(reply.spans) for reply in chosen),
            samples=len(rows),
        ),
    )


def _laid_out(
    rows: Sequence[_Row], width: int, values: Callable[[_Segment], Sequence[int]]
) -> Tensor:
    """Return (B, width) int64 with every segment's values in its columns, 0 elsewhere."""
    laid_out = torch.zeros(len(rows), width, dtype=torch.long)
    for row, out in zip(rows, laid_out, strict=True):
        for segment in row.segments:
            out[segment.column : segment.stop] = torch.tensor(list(values(segment)))
    return laid_out


def _marked(width: int, columns: Tensor, mask: Tensor) -> Tensor:
    """Return (B, width) bool, true at the columns (B, N) where mask (B, N) is true."""
    marks = torch.zeros(len(columns), width, dtype=torch.long)
    return marks.scatter_add(1, columns, mask.long()).bool()


def _padded(rows: Iterable[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return rows as (B, N) int64, 0 at padding, and as (B, N) bool, false at padding."""
    tensors = [torch.tensor(list(row), dtype=torch.long) for row in rows]
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in tensors], True)
    return pad_sequence(tensors, True), mask


def _evidence_inputs(rows: Sequence[Places], frame_counts: Sequence[int]) -> EvidenceInputs:
    columns, mask = _padded([column for column, _ in row] for row in rows)
    first, last = torch.zeros_like(columns), torch.zeros_like(columns)
    for index, (row, frames) in enumerate(zip(rows, frame_counts, strict=True)):
        spans = torch.tensor([span for _, span in row], dtype=torch.float64).reshape(-1, 2)
        low, high = interval_frames(spans[:, 0], spans[:, 1], frames)
        first[index, : len(row)], last[index, : len(row)] = low, high
    return EvidenceInputs(columns, first, last, mask)


def _targets(replies: Sequence[_Reply], frame_counts: Sequence[int] | None) -> ResponseTargets:
    """Return the targets of one response per row; `frame_counts` for instants to be matched."""
    columns, mask = _padded(reply.predicted_from for reply in replies)
    labels, _ = _padded(reply.segment.token_ids for reply in replies)
    stages = [
        _padded(reply.evidence_from(stage) for reply in replies)
        for stage in range(len(replies[0].stages))
    ]
    starts, ends = _rounded(replies) if frame_counts is None else _clamped(replies, frame_counts)
    return ResponseTargets(
        columns=columns,
        labels=labels,
        mask=mask,
        evidence_columns=torch.stack([places for places, _ in stages], dim=1),
        evidence_mask=stages[0][1],
        starts=starts,
        ends=ends,
    )


def _rounded(replies: Sequence[_Reply]) -> tuple[Tensor, Tensor]:
    """Return first and last frame of the intervals, (B, K) int64 each."""
    spans = [[sorted((round(s), round(e))) for s, e in reply.spans] for reply in replies]
    starts, _ = _padded([start for start, _ in row] for row in spans)
    ends, _ = _padded([end for _, end in row] for row in spans)
    return starts, ends


def _clamped(replies: Sequence[_Reply], frame_counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the instants within the frames of their rows, (B, K) float32, twice."""
    rows = [
        torch.tensor([start for start, _ in reply.spans]).clamp(0, frames - 1)
        for reply, frames in zip(replies, frame_counts, strict=True)
    ]
    instants = pad_sequence(rows, True)
    return instants, instants
