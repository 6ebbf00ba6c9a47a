"""A run's order of samples, whatever the size of its steps, and when it is resumed."""

import math
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.training.sample_order import ProcessBatches, RunPosition, SampleOrder, StepSize

sizes = st.builds(StepSize, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def read(order: SampleOrder, *, until: int | None = None) -> list[int]:
    """The samples of the steps up to `until`, in order."""
    last = order.last_step if until is None else until
    steps = map(order.step_batches, range(order.start.step + 1, last + 1))
    return list(chain.from_iterable(chain.from_iterable(chain.from_iterable(steps))))


def test_each_epoch_is_another_permutation_of_all_samples() -> None:
    samples = read(SampleOrder(7, seed=0, size=StepSize(2), epochs=3))
    epochs = [samples[i : i + 7] for i in range(0, 21, 7)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_depends_on_the_seed_and_not_on_the_step_size() -> None:
    one = read(SampleOrder(12, seed=1, size=StepSize(1)))
    assert one == read(SampleOrder(12, seed=1, size=StepSize(2, 3, 2)))
    assert one != read(SampleOrder(12, seed=2, size=StepSize(1)))


@given(
    count=st.integers(1, 30),
    epochs=st.integers(1, 3),
    first=sizes,
    second=sizes,
    stop=st.integers(0, 20),
)
def test_no_sample_is_lost_or_repeated_when_the_step_size_changes(
    count: int, epochs: int, first: StepSize, second: StepSize, stop: int
) -> None:
    whole = SampleOrder(count, seed=3, size=StepSize(1), epochs=epochs)
    before = SampleOrder(count, seed=3, size=first, epochs=epochs)
    stop = min(stop, before.total // first.samples)  # only the last step may be smaller
    position = RunPosition(stop, before.samples_after(stop))
    after = SampleOrder(count, seed=3, size=second, start=position, epochs=epochs)
    samples = read(before, until=stop) + read(after)
    expected = read(whole)
    # Fewer samples than processes in the last pass: some of the last are repeated.
    assert len(samples) - len(expected) < second.processes * second.accumulation
    assert samples[: len(expected)] == expected or sorted(set(samples)) == list(range(count))
    if second.processes == 1:
        assert samples == expected


def test_a_resumed_run_ends_at_its_last_step() -> None:
    order = SampleOrder(100, seed=0, size=StepSize(10), start=RunPosition(3, 60))
    assert (order.steps, order.last_step) == (4, 7)
    counted = SampleOrder(100, seed=0, size=StepSize(10), start=RunPosition(3, 60), max_steps=20)
    assert (counted.steps, counted.last_step, counted.total) == (17, 20, 230)
    over = SampleOrder(100, seed=0, size=StepSize(10), start=RunPosition(20, 100))
    assert (over.steps, over.last_step, len(ProcessBatches(over, 0))) == (0, 20, 0)


def test_a_fraction_of_an_epoch_is_counted_in_samples() -> None:
    assert SampleOrder(10, seed=0, size=StepSize(4), epochs=0.5).total == 5
    assert SampleOrder(10, seed=0, size=StepSize(4), epochs=0.1 + 0.2).total == 3


def test_the_processes_divide_every_step() -> None:
    order = SampleOrder(23, seed=0, size=StepSize(2, 2, 2))
    batches = [list(ProcessBatches(order, process)) for process in (0, 1)]
    assert [len(b) for b in batches] == [len(ProcessBatches(order, p)) for p in (0, 1)]
    assert len(batches[0]) == len(batches[1]) == 6  # 8, 8 and 7 samples: two passes each
    assert sorted(chain(*batches[0], *batches[1])) == list(range(23))
    assert sorted(len(batch) for batch in (*batches[0][-2:], *batches[1][-2:])) == [1, 2, 2, 2]


def test_the_last_samples_are_repeated_if_processes_outnumber_them() -> None:
    order = SampleOrder(5, seed=0, size=StepSize(1, 1, 3))
    batches = [list(ProcessBatches(order, process)) for process in range(3)]
    assert all(len(own) == 2 for own in batches)
    assert {index for own in batches for (index,) in own} == set(range(5))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_schedule_continues_where_it_was(size: int) -> None:
    before = SampleOrder(400, seed=0, size=StepSize(2))
    position = RunPosition(50, before.samples_after(50))
    after = SampleOrder(400, seed=0, size=StepSize(size), start=position)
    share = before.schedule_step(50) / before.schedule_steps
    assert after.schedule_step(50) / after.schedule_steps == pytest.approx(share)
    assert after.schedule_step(after.last_step) == pytest.approx(after.schedule_steps)
    assert after.schedule_steps == math.ceil(400 / size)


def test_a_schedule_of_steps_is_counted_in_steps() -> None:
    start = RunPosition(50, 100)
    order = SampleOrder(400, seed=0, size=StepSize(4), start=start, max_steps=80)
    assert (order.schedule_step(50), order.schedule_steps) == (50, 80)
