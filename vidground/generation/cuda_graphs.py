"""A decoding step recorded once and replayed, so that a GPU does not wait for the host in between.

A recording reads and writes the same memory every time: what is fed is copied to where it was
when the step was recorded. Knows tensors; no model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_WARM_UP = 2  # runs before recording, in which libraries take the memory that they keep
_TOLERANCE = 0.05
"""A replayed step whose numbers are farther off than this share of the largest one is wrong."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepInputs:
    """What a step is fed.

    embeds: (B, 1, H). positions: (B,). cosines, sines: (B, 1, D) of the positions. mask: which of
    S cached positions are seen, (B, 1, 1, S), in the form that attention takes.
    """

    embeds: Tensor
    positions: Tensor
    cosines: Tensor
    sines: Tensor
    mask: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and positions: what a recording is good for."""
        return self.mask.shape[0], self.mask.shape[3]


StepOutputs = tuple[Tensor, ...]
Compute = Callable[[StepInputs], StepOutputs]
Record = Callable[[Callable[[], StepOutputs]], tuple[Callable[[], None], StepOutputs]]
"""Records a function without arguments: what replays it, and where its outputs are then."""


@dataclass(frozen=True)
class _Recording:
    inputs: StepInputs
    replay: Callable[[], None]
    outputs: StepOutputs


class StepGraphs:
    """A step and its recordings, one for each shape of what it is fed.

    A recording whose numbers are not those of the step itself, or that cannot be made, is told of
    once; from then on the step is computed as usual.
    """

    def __init__(self, compute: Compute, record: Record | None = None) -> None:
        self._compute = compute
        self._record = record or record_cuda
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._works = True

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The step's outputs, in memory of their own."""
        if not self._works:
            return self._compute(inputs)
        recording = self._recordings.get(inputs.shape)
        with torch.cuda.device_of(inputs.embeds):  # type: ignore[no-untyped-call]
            if recording is None:
                return self._recorded(inputs)
            return self._replayed(recording, inputs)

    def forget(self) -> None:
        """Drop all recordings, for the memory that they work on was replaced."""
        self._recordings.clear()

    def _recorded(self, inputs: StepInputs) -> StepOutputs:
        expected = self._compute(inputs)
        kept = StepInputs(*(tensor.clone() for tensor in inputs.tensors))
        try:
            replay, outputs = self._record(lambda: self._compute(kept))
            recording = _Recording(kept, replay, outputs)
            found = self._replayed(recording, inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            return self._give_up(str(error), expected)
        if not all(map(_alike, found, expected)):
            return self._give_up("its numbers differ", expected)
        self._recordings[inputs.shape] = recording
        return found

    def _replayed(self, recording: _Recording, inputs: StepInputs) -> StepOutputs:
        for kept, new in zip(recording.inputs.tensors, inputs.tensors, strict=True):
            kept.copy_(new)
        recording.replay()
        return tuple(output.clone() for output in recording.outputs)

    def _give_up(self, why: str, expected: StepOutputs) -> StepOutputs:
        _log.warning("decoding steps are not replayed from CUDA graphs here: %s", why)
        self._works = False
        self.forget()
        return expected


def record_cuda(run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
    """Record a CUDA graph. Other threads may use the GPU meanwhile."""
    side, now = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(now)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            run()
    now.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = run()
    return graph.replay, outputs


def _alike(found: Tensor, expected: Tensor) -> bool:
    difference = (found.float() - expected.float()).abs().amax()
    return bool(difference <= _TOLERANCE * expected.float().abs().amax())
