"""Order in which a run reads its samples, counted in samples so that a run can be resumed.

The samples of a run are one sequence: a random permutation of the data for each epoch, which
depends on the seed and the epoch only. Steps take consecutive parts of it. A run resumed with
another batch size, accumulation or number of processes continues at the same sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class StepSize:
    """How many samples an optimizer step takes, and how they are divided.

    Attributes:
        batch_size: samples per process in one forward pass.
        accumulation: forward passes per step.
        processes: processes that train together.
    """

    batch_size: int
    accumulation: int = 1
    processes: int = 1

    @property
    def samples(self) -> int:
        """Samples of a full step."""
        return self.batch_size * self.accumulation * self.processes


@dataclass(frozen=True, slots=True)
class RunPosition:
    """How far a run has come.

    Attributes:
        step: optimizer steps done.
        samples: samples read in them.
    """

    step: int = 0
    samples: int = 0


@dataclass(frozen=True)
class SampleOrder:
    """The samples of a run, from a position to its end.

    Attributes:
        count: samples of the data set.
        seed: of the permutations.
        size: samples per step.
        start: position to begin at.
        epochs: passes over the data, if max_steps is None.
        max_steps: number of the run's last step.
    """

    count: int
    seed: int
    size: StepSize
    start: RunPosition = RunPosition()
    epochs: float = 1.0
    max_steps: int | None = None

    @property
    def total(self) -> int:
        """Samples of the whole run, those before `start` included."""
        if self.max_steps is None:
            return math.ceil(round(self.count * self.epochs, 6))
        return self.start.samples + max(0, self.max_steps - self.start.step) * self.size.samples

    @property
    def steps(self) -> int:
        """Steps from `start` to the end."""
        return math.ceil(max(0, self.total - self.start.samples) / self.size.samples)

    @property
    def last_step(self) -> int:
        """Number of the run's last step, counted from its beginning."""
        return self.start.step + self.steps

    @property
    def schedule_steps(self) -> int:
        """Length of the learning rate schedule, in steps of the present size."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil(self.total / self.size.samples)

    def schedule_step(self, step: int) -> float:
        """Return where a step is in the learning rate schedule.

        With epochs this is the share of samples read, so that the schedule is continuous when
        the step size changes.
        """
        if self.max_steps is not None:
            return step
        return step - self.start.step + self.start.samples / self.size.samples

    def samples_after(self, step: int) -> int:
        """Return the samples read by the end of a step at or after `start`."""
        done = self.start.samples + (step - self.start.step) * self.size.samples
        return max(self.start.samples, min(done, self.total))

    def index(self, position: int) -> int:
        """Return the sample at a position of the run's sequence."""
        epoch, place = divmod(position, self.count)
        return _permutation(self.count, self.seed, epoch)[place]

    def step_batches(self, step: int) -> list[list[list[int]]]:
        """Return the samples of a step, [forward pass][process][sample].

        Only the last step of a run may be smaller. It is divided evenly, so that every process
        takes part in every pass; with fewer samples than processes some of them are repeated.
        """
        first = self.start.samples + (step - self.start.step - 1) * self.size.samples
        indices = [self.index(p) for p in range(first, min(first + self.size.samples, self.total))]
        processes, batch = self.size.processes, self.size.batch_size
        passes = math.ceil(len(indices) / (batch * processes))
        if len(indices) == self.size.samples:
            parts = [indices[i : i + batch] for i in range(0, len(indices), batch)]
        else:
            parts = _divided(indices, passes * processes)
        return [parts[i : i + processes] for i in range(0, len(parts), processes)]


class ProcessBatches(Sampler[list[int]]):
    """Batches of one process, from the order's start to the end of the run."""

    def __init__(self, order: SampleOrder, process: int) -> None:
        self._order = order
        self._process = process

    def __len__(self) -> int:
        order = self._order
        if order.steps == 0:
            return 0
        last = len(order.step_batches(order.last_step))
        return (order.steps - 1) * order.size.accumulation + last

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order
        for step in range(order.start.step + 1, order.last_step + 1):
            for processes in order.step_batches(step):
                yield processes[self._process]


def _divided(indices: Sequence[int], parts: int) -> list[list[int]]:
    """Divide into parts whose sizes differ by at most one; none is empty."""
    filled = [indices[i % len(indices)] for i in range(max(len(indices), parts))]
    bounds = [len(filled) * i // parts for i in range(parts + 1)]
    return [filled[a:b] for a, b in pairwise(bounds)]


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order of an epoch's samples."""
    generator = torch.Generator().manual_seed(seed + epoch)
    permutation: list[int] = torch.randperm(count, generator=generator).tolist()
    return permutation
