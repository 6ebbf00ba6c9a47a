"""CUDA graphs: a decoding step is recorded once and replayed, without launching every kernel.

A recording reads and writes the same memory every time: inputs are copied to where they were when
the step was recorded. Knows tensors only.
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

_WARM_UP = 2
"""Number of runs before recording, in which libraries allocate the memory that they keep."""

_TOLERANCE = 0.05
"""Maximum deviation of a replayed step, relative to the largest output."""

_RECORDING = threading.Lock()
"""CUDA allows one recording at a time per process."""

_log = logging.getLogger(__name__)


class ReplayError(RuntimeError):
    """A replayed step computed other numbers than the step itself.

    It may have overwritten memory that it was recorded with, such as a cache.
    """


@dataclass(frozen=True)
class StepInputs:
    """The inputs of one step.

    Attributes:
        embeds: (B, 1, H).
        positions: (B,), where the step writes to the cache.
        cosines: (B, 1, D), rotary embeddings of the positions.
        sines: (B, 1, D), rotary embeddings of the positions.
        mask: (B, 1, 1, S), which of S cached positions are seen, in the form that attention takes.
    """

    embeds: Tensor
    positions: Tensor
    cosines: Tensor
    sines: Tensor
    mask: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def shape(self) -> tuple[int, int]:
        """B and S; each combination needs a recording of its own."""
        return self.mask.shape[0], self.mask.shape[3]


StepOutputs = tuple[Tensor, ...]
Compute = Callable[[StepInputs], StepOutputs]
Record = Callable[[Callable[[], StepOutputs]], tuple[Callable[[], None], StepOutputs]]
"""Records a function without arguments; returns a function that replays it, and its outputs, which
every replay overwrites."""
Recorder = Callable[[], Record]
"""Creates a `Record`; the recordings of one `Record` may share memory."""


@dataclass
class _Recording:
    """A recorded step.

    Attributes:
        inputs: memory that it reads.
        replay: runs it.
        outputs: memory that it writes.
        trusted: whether a replay has been checked.
    """

    inputs: StepInputs
    replay: Callable[[], None]
    outputs: StepOutputs
    trusted: bool = False

    def holds(self, inputs: StepInputs) -> bool:
        """Return whether these are the inputs that it was recorded with."""
        return all(map(torch.equal, self.inputs.tensors, inputs.tensors))

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """Replay the step; return copies of its outputs."""
        for recorded, new in zip(self.inputs.tensors, inputs.tensors, strict=True):
            recorded.copy_(new)
        self.replay()
        return tuple(output.clone() for output in self.outputs)


class StepGraphs:
    """A step and its recordings, one per shape of its inputs.

    A recording is used once a replay with other inputs than the recorded ones has computed the same
    numbers as the step itself. If a recording fails or does not pass this check, a warning is
    logged, and all later steps are computed without recordings.

    Args:
        compute: the step.
        recorder: records steps; None for CUDA graphs.
    """

    def __init__(self, compute: Compute, recorder: Recorder | None = None) -> None:
        self._compute = compute
        self._recorder: Recorder = recorder or CudaRecorder
        self._record: Record | None = None
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._works = True

    def __call__(self, inputs: StepInputs) -> StepOutputs:
        """Compute or replay the step; the outputs are not overwritten by later steps.

        Raises:
            ReplayError: the first replay of a recording was wrong. The memory that the step writes
                must be computed again; calling again works.
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
        """Drop all recordings, because the memory that they use was replaced."""
        self._recordings.clear()
        self._record = None  # CUDA does not accept a memory pool whose graphs are all gone

    def _recorded(self, inputs: StepInputs) -> StepOutputs:
        """Record the step, and compute it."""
        compute = self._compute
        own = StepInputs(*(tensor.clone() for tensor in inputs.tensors))
        try:
            self._record = self._record or self._recorder()
            with held_signals():
                replay, outputs = self._record(lambda: compute(own))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None  # leaving the aborted capture failed as well
            self._give_up(str(error))
        else:
            self._recordings[inputs.shape] = _Recording(own, replay, outputs)
        return compute(inputs)

    def _checked(self, recording: _Recording, inputs: StepInputs) -> StepOutputs:
        """Replay for the first time, and compare with the step itself."""
        if recording.holds(inputs):
            return self._compute(inputs)
        for output in recording.outputs:
            output.fill_(torch.nan)  # so that outputs which a replay does not write are noticed
        # The replay comes first, so that it cannot profit from what the step itself writes.
        found = recording(inputs)
        expected = self._compute(inputs)
        if not all(bool(output.isfinite().all()) for output in expected):
            return expected  # cannot be compared
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
    """Records CUDA graphs on the current device, while other threads may use the GPU.

    The graphs share a memory pool: only one of them may run at a time, and the next one overwrites
    its outputs.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], StepOutputs]) -> tuple[Callable[[], None], StepOutputs]:
        """See `Record`."""
        now, side = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        graph = torch.cuda.CUDAGraph()
        # The outer stream block restores the stream if a capture is aborted; torch's own does not.
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
    """Return the stream of a device that is used for recording.

    torch's default capture stream belongs to the device of the first recording and cannot record on
    another. There is only one stream per device because cuBLAS keeps a workspace for each.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _alike(found: Tensor, expected: Tensor) -> bool:
    difference = (found.float() - expected.float()).abs().amax()
    return bool(difference <= _TOLERANCE * expected.float().abs().amax())
