"""Moments and captioned events of a window, worked out by hand."""

import pytest
import torch

from vidground.features.windows import Window, WindowEvent
from vidground.generation.generated import Evidence, Generation
from vidground.inference.answers import Reading
from vidground.inference.moments import moment_spans, peaks, window_events
from vidground.language.response_parsing import ParsedAnswer, Segment

CURVE = torch.tensor([0.1, 0.8, 0.6, 0.1, 0.7, 0.2])
WINDOW = Window(100, 106, 100, 106)


def reading(evidence: list[Evidence], answer: list[int], texts: list[str]) -> Reading:
    """A reading whose answer refers to some of the evidence, with a caption for each."""
    parsed = ParsedAnswer(
        evidence=tuple(range(len(evidence))),
        answer_evidence=tuple(answer),
        segments=tuple(map(Segment, answer, texts)),
        has_evidence_end=True,
        balanced=True,
        truncated=False,
        problems=(),
    )
    generation = Generation([], tuple(evidence), CURVE, truncated=False)
    return Reading(WINDOW, generation, [], tuple(evidence), (), parsed, "")


def test_peaks_are_the_runs_of_relevant_frames() -> None:
    found = peaks(CURVE, threshold=0.6)
    assert [(first, last) for first, last, _ in found] == [(1, 2), (4, 4)]
    assert [score for *_, score in found] == pytest.approx([0.7, 0.7])


def test_moments_are_the_peaks_of_the_evidence_that_the_answer_refers_to() -> None:
    two = Evidence(0, 1, 2, CURVE)
    unused = Evidence(1, 3, 3, CURVE.flip(0))
    matched = Evidence(2, 2, 3, CURVE, matched=(2, 3))
    found = moment_spans(reading([two, unused, matched], [0, 2], ["", ""]), share=0.6)
    assert [(first, last) for first, last, _ in found] == [(101, 102), (104, 104), (102, 103)]
    assert [score for *_, score in found] == pytest.approx([0.7, 0.7, 0.35])


def test_events_are_evidence_with_a_caption() -> None:
    evidence = [Evidence(0, 1, 2, CURVE), Evidence(1, 4, 4, CURVE), Evidence(2, 0, 0, CURVE)]
    first, second = window_events(reading(evidence, [0, 1, 2], [", ", "a dog barks.", ""]))
    assert first == WindowEvent(101, 102, "a dog barks", pytest.approx(0.7))
    assert second == WindowEvent(104, 104, "a dog barks", pytest.approx(0.7))
