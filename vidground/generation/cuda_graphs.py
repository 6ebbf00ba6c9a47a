"""A decoding step recorded once and replayed, so that a GPU does not wait for the host in between.

A recording reads and writes the same memory every time: inputs are copied to where they were when
the step was recorded. Knows tensors; no model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from vidground.generation.held_signals import held_signals

_WARM_UP = 2  # runs before recording, in which libraries take the memory that they keep
_TOLERANCE = 0.05
"""A replayed step whose numbers are farther off than this share of the largest one is wrong."""

_RECORDING = threading.Lock()
"""CUDA allows one recording at a time in a process."""

_log = logging.getLogger(__name__)


class ReplayError(RuntimeError):
    """A replayed step computed other numbers than the step itself.

    It may have written anywhere in the memory that it was recorded with, such as a cache.
    """


@dataclass(frozen=True)
class StepInputs:
    """The inputs of one step.

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
"""Records a function without arguments; returns what replays it and where its outputs are then."""
Recorder = Callable[[], Record]
"""Makes what records; the recordings of one `Record` may share memory."""


@dataclass
class _Recording:
    """inputs, outputs: the memory it works on. trusted: whether a replay has been checked."""

    inputs: StepInputs
    replay: Callable[[], None]
    outputs: StepOutputs
    trusted: bool = False

    def holds(self, inputs: StepInputs) -> bool:
        """Whether the inputs are those it was recorded with."""
        return all(map(torch.equal, self.inputs.tensors, inputs.tensors))

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The outputs of a replay, in memory of their own."""
        for kept, new in zip(self.inputs.tensors, inputs.tensors, strict=True):
            kept.copy_(new)
        self.replay()
        return tuple(output.clone() for output in self.outputs)


class StepGraphs:
    """A step and its recordings, one for each shape of its inputs.

    A recording is used once a replay of it, with inputs other than those it was recorded with, has
    given the numbers of the step itself. If one cannot be made or fails that check, a warning is
    logged and all steps from then on are computed without recordings.

    Args:
        compute: the step.
        recorder: None for CUDA graphs.
    """

    def __init__(self, compute: Compute, recorder: Recorder | None = None) -> None:
        self._compute = compute
        self._recorder: Recorder = recorder or CudaRecorder
        self._record: Record | None = None
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._works = True

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """The step's outputs, in memory of their own.

        Raises:
            ReplayError: the first replay of a recording went wrong. What the step works on must be
                computed again; calling again works.
        """
        if not self._works:
            return self._compute(inputs)
        with torch.cuda.device_of(inputs.embeds):  # type: ignore[no-untyped-call]
            recording = self._recordings.get(inputs.shape)
            if recording is None:
                return self._recorded(inputs)
            if not recording.trusted:
                return self._checked(recording, inputs)
            return recording(inputs)

    def forget(self) -> None:
        """Drop all recordings, because the memory that they work on was replaced."""
        self._recordings.clear()
        self._record = None  # CUDA does not accept a memory pool again that all graphs have left

    def _recorded(self, inputs: StepInputs) -> StepOutputs:
        """Record the step, and compute it."""
        compute = self._compute
        kept = StepInputs(*(tensor.clone() for tensor in inputs.tensors))
        try:
            self._record = self._record or self._recorder()
            with held_signals():
                replay, outputs = self._record(lambda: compute(kept))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None  # a recording that was cut short fails again
            self._give_up(str(error))
        else:
            self._recordings[inputs.shape] = _Recording(kept, replay, outputs)
        return compute(inputs)

    def _checked(self, recording: _Recording, inputs: StepInputs) -> StepOutputs:
        """Replay for the first time, and compute the step as well."""
        if recording.holds(inputs):
            return self._compute(inputs)
        for output in recording.outputs:
            output.fill_(torch.nan)  # numbers that a replay leaves as they were are not its own
        # The replay comes first: what the step itself writes must not stand in for it.
        found = recording(inputs)
        expected = self._compute(inputs)
        if not all(bool(output.isfinite().all()) for output in expected):
            return expected  # nothing to compare with
        if not all(map(_alike, found, expected)):
            self._give_up("a replay computed other numbers")
            raise ReplayError(
                "a replayed decoding step computed other numbers than the step itself"
            )
        recording.trusted = True
        return expected

    def _give_up(self, why: str) -> None:
        _log.warning("decoding steps are not replayed from CUDA graphs: %s", why)
        self._works = False
        self.forget()


class CudaRecorder:
    """Records CUDA graphs on the current device. Other threads may use the GPU meanwhile.

    The graphs share a pool of memory, so only one of them may run at a time, and its outputs are
    overwritten by the next one.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        """See `Record`."""
        now, side = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        graph = torch.cuda.CUDAGraph()
        # The outer stream block is what leaves the side stream if a recording breaks off: torch's
        # own does not then.
        with _RECORDING, torch.cuda.stream(side):
            side.wait_stream(now)
            for _ in range(_WARM_UP):
                run()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=side, capture_error_mode="thread_local"
            ):
                outputs = run()
            now.wait_stream(side)
        return graph.replay, outputs


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The stream of a device that is recorded on.

    torch's own belongs to the device that was first recorded on, and records nothing of another.
    There is just one because cuBLAS keeps memory for every stream it has worked on.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _alike(found: Tensor, expected: Tensor) -> bool:
    difference = (found.float() - expected.float()).abs().amax()
    return bool(difference <= _TOLERANCE * expected.float().abs().amax())
