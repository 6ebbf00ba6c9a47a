"""Where the tokens of a batch stand, who sees whom, and what a batch refuses."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vidground.errors import InputError
from vidground.training.data.collation import Collator, Sample
from vidground.training.data.samples import (
    PreferenceSample,
    Response,
    SftSample,
    TrainingPrompt,
    frame_spans,
)
from vidground.training.objectives.batches import TrainingBatch

EVI, END, STOP = 90, 91, 9
COLLATE = Collator(EVI, END)
FEATURES = torch.arange(24.0).reshape(4, 3, 2)
PROMPT = TrainingPrompt([1, 2], [3, EVI], [7, 8], FEATURES, [(2.5, 0.4)])
CHOSEN = Response([EVI, END, 4, EVI, STOP], [(9, 1.5)])
REJECTED = Response([END, 5, STOP])
SHORT = TrainingPrompt([1], [3], [7], FEATURES[:1])


@pytest.fixture
def batch() -> TrainingBatch:
    pairs = [
        PreferenceSample(SHORT, REJECTED, Response([6, STOP])),
        PreferenceSample(PROMPT, CHOSEN, REJECTED),
    ]
    return COLLATE(pairs)


def test_layout(batch: TrainingBatch) -> None:
    """[before, frames, padding | after, chosen, rejected, padding]"""
    assert batch.prefix_length == 6
    assert batch.token_ids.tolist() == [
        [1, 0, 0, 0, 0, 0, 3, END, 5, STOP, 6, STOP, 0, 0, 0, 0],
        [1, 2, 0, 0, 0, 0, 3, EVI, EVI, END, 4, EVI, STOP, END, 5, STOP],
    ]
    # Both responses continue from the prompt's last position.
    assert batch.position_ids.tolist() == [
        [0, 1, 0, 0, 0, 0, 2, 3, 4, 5, 3, 4, 0, 0, 0, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 9, 10],
    ]
    assert batch.branch.tolist() == [
        [0] * 7 + [1, 1, 1, 2, 2] + [0] * 4,
        [0] * 8 + [1] * 5 + [2] * 3,
    ]
    assert batch.real.long().tolist() == [[1, 1] + [0] * 4 + [1] * 6 + [0] * 4, [1] * 16]
    assert batch.is_frame.long().tolist() == [[0, 1] + [0] * 14, [0, 0, 1, 1, 1, 1] + [0] * 10]
    assert batch.frame_columns.tolist() == [[1, 0, 0, 0], [2, 3, 4, 5]]
    assert batch.frame_mask.long().tolist() == [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch.frames.equal(torch.cat((FEATURES[:1], FEATURES)))
    assert batch.question_ids.tolist() == [[7, 0], [7, 8]]
    assert batch.question_mask.tolist() == [[True, False], [True, True]]


def test_evidence(batch: TrainingBatch) -> None:
    asked, given = batch.references, batch.evidence
    # 2.5 rounds to the even 2; the reversed interval is turned round.
    assert (asked.columns[1].item(), asked.first[1].item(), asked.last[1].item()) == (7, 0, 2)
    assert asked.mask.tolist() == [[False], [True]]
    # Reversed as well; 1.5 rounds to 2, 9 lies beyond the last frame.
    assert given.columns.tolist() == [[0, 0], [8, 11]]
    assert (given.first[1].tolist(), given.last[1].tolist()) == ([2, 2], [3, 3])
    assert given.mask.tolist() == [[False, False], [True, True]]


def test_targets(batch: TrainingBatch) -> None:
    chosen, rejected = batch.responses
    assert chosen.labels.tolist() == [[END, 5, STOP, 0, 0], [EVI, END, 4, EVI, STOP]]
    assert chosen.columns.tolist() == [[6, 7, 8, 0, 0], [7, 8, 9, 10, 11]]
    assert chosen.mask.sum(1).tolist() == [3, 5]
    # The prompt's last token predicts the first token of the rejected response as well.
    assert rejected.labels.tolist() == [[6, STOP, 0], [END, 5, STOP]]
    assert rejected.columns.tolist() == [[6, 10, 0], [7, 13, 14]]
    assert chosen.evidence_columns.tolist() == [[[0], [0]], [[7], [10]]]
    assert chosen.evidence_mask.tolist() == [[False], [True]]
    assert (chosen.starts[1].item(), chosen.ends[1].item()) == (2, 9)
    assert rejected.evidence_columns.shape == (2, 2, 0)


def test_counts_are_of_the_first_response(batch: TrainingBatch) -> None:
    assert (batch.counts.tokens, batch.counts.grounded, batch.counts.samples) == (8, 1, 2)


def test_who_sees_whom(batch: TrainingBatch) -> None:
    seen = [set(row.nonzero().flatten().tolist()) for row in batch.visible()[1]]
    prompt = set(range(8))
    assert seen[1] == {0, 1}
    assert seen[2] == seen[5] == set(range(6))  # frames see each other both ways
    assert seen[6] == set(range(7))
    assert seen[10] == prompt | {8, 9, 10}
    assert seen[14] == prompt | {13, 14}
    padded = [set(row.nonzero().flatten().tolist()) for row in batch.visible()[0]]
    assert padded[3] <= {0, 3}
    assert padded[9] == {0, 1, 6, 7, 8, 9}


def test_frames_can_be_the_last_of_a_prompt() -> None:
    sample = SftSample(replace(SHORT, after=[]), Response([5, STOP]))
    batch = COLLATE([sample])
    assert batch.token_ids.tolist() == [[1, 0, 5, STOP]]
    assert batch.responses[0].columns.tolist() == [[1, 2]]


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    found = value if isinstance(value, list | tuple) else []
    return [tensor for item in found for tensor in tensors(item)]


def test_all_tensors_move_together(batch: TrainingBatch) -> None:
    moved = batch.to("meta")
    assert len(tensors(moved)) == len(tensors(batch)) == 10 + 2 * 4 + 2 * 7
    assert all(tensor.is_meta for tensor in tensors(moved))
    assert moved.counts == batch.counts


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([], "0 samples"),
        ([SftSample(SHORT, REJECTED), PreferenceSample(SHORT, REJECTED, CHOSEN)], "mixes"),
        (
            [
                SftSample(SHORT, REJECTED),
                SftSample(replace(SHORT, frames=FEATURES[..., :1]), CHOSEN),
            ],
            "frames of a batch differ",
        ),
        ([SftSample(replace(PROMPT, spans=[]), REJECTED)], "1 time tokens and 0 intervals"),
    ],
)
def test_a_batch_refuses(samples: list[Sample], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        COLLATE(samples)


def test_samples_refuse() -> None:
    with pytest.raises(InputError, match="shape"):
        replace(SHORT, frames=torch.zeros(0, 3, 2))
    with pytest.raises(InputError, match="shape"):
        replace(SHORT, frames=torch.zeros(4))
    with pytest.raises(InputError, match="no text"):
        replace(SHORT, before=[], after=[])
    with pytest.raises(InputError, match="no tokens"):
        Response([])
    with pytest.raises(InputError, match="not finite"):
        Response([1], [(0.0, float("inf"))])


def test_seconds_become_frames() -> None:
    assert frame_spans([1, 4, 6.4, 9.8]) == ((1, 4), (6.4, 9.8))
    assert frame_spans([2, 3], fps=2) == ((4, 6),)
    assert frame_spans([7]) == ((7, 7),)
    assert frame_spans(None) == ()
    with pytest.raises(InputError, match="3 times are no pairs"):
        frame_spans([1, 2, 3])
