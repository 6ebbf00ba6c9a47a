"""Intervals from relevance, compared with hand arithmetic and a simple implementation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidground.model.evidence import (
    best_interval,
    interval_frames,
    interval_mean,
    relevance,
    run_means,
)


def interval(curve: list[float], threshold: float = 0.6) -> tuple[int, int]:
    values = torch.tensor([curve])
    first, last = best_interval(
        values, torch.ones_like(values, dtype=torch.bool), threshold=threshold
    )
    return int(first), int(last)


def plain_interval(curve: list[float], threshold: float) -> tuple[int, int]:
    """A simple implementation, run by run."""
    values = torch.tensor(curve)
    runs: list[list[int]] = []
    for frame, value in enumerate(values):
        if value >= threshold * values.max():
            if runs and runs[-1][-1] == frame - 1:
                runs[-1].append(frame)
            else:
                runs.append([frame])
    means = [float(values[run].sum() / len(run)) for run in runs]
    best = [run for run, mean in zip(runs, means, strict=True) if mean == max(means)]
    return best[0][0], best[-1][-1]


def test_the_run_with_the_highest_mean_wins_over_the_highest_frame() -> None:
    # threshold 0.6: remaining 0.9, 0.6, 0.55 (mean 0.683) and 0.8, 0.8 (mean 0.8)
    assert interval([0.1, 0.9, 0.6, 0.55, 0.1, 0.8, 0.8, 0.2]) == (5, 6)


def test_frames_below_the_share_of_the_peak_split_runs() -> None:
    assert interval([1.0, 0.59, 1.0, 0.6, 0.1]) == (0, 0)


def test_equal_means_span_both_runs() -> None:
    assert interval([0.5, 0.1, 0.1, 0.5]) == (0, 3)


def test_one_frame() -> None:
    assert interval([0.01]) == (0, 0)


# Multiples of 1/64 add up without rounding, so that ties are ties in both readings.
@given(st.lists(st.integers(1, 64), min_size=1, max_size=30), st.sampled_from([0.25, 0.5, 0.75]))
def test_intervals_equal_those_of_a_simple_implementation(
    steps: list[int], threshold: float
) -> None:
    curve = [step / 64 for step in steps]
    assert interval(curve, threshold) == plain_interval(curve, threshold)


def test_padding_changes_no_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    curves = [torch.rand(length, generator=generator) for length in (3, 11, 7)]
    batch = torch.nn.utils.rnn.pad_sequence(curves, batch_first=True, padding_value=0.99)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(curve), dtype=torch.bool) for curve in curves], batch_first=True
    )
    first, last = best_interval(batch, mask, threshold=0.6)
    expected = [interval(curve.tolist()) for curve in curves]
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == expected


def test_run_means_by_hand() -> None:
    curve = torch.tensor([[0.8, 0.6, 0.1, 0.5]])
    means, survivor = run_means(curve, torch.ones_like(curve, dtype=torch.bool), threshold=0.6)
    assert survivor.tolist() == [[True, True, False, True]]
    torch.testing.assert_close(means, torch.tensor([[0.7, 0.7, -1.0, 0.5]]))


def test_relevance_is_a_scaled_dot_product_through_a_sigmoid() -> None:
    evidence = torch.tensor([[1.0, 2.0, 0.0, -1.0]])
    frames = torch.tensor([[[1.0, 1.0, 5.0, 1.0], [0.0, 0.0, 1.0, 0.0]]])
    expected = torch.sigmoid(torch.tensor([[(1 + 2 - 1) / 2.0, 0.0]]))
    torch.testing.assert_close(relevance(evidence, frames), expected)


def test_interval_mean_includes_both_ends() -> None:
    values = torch.arange(10.0).reshape(1, 5, 2).repeat(2, 1, 1)
    mean = interval_mean(values, torch.tensor([1, 4]), torch.tensor([3, 4]))
    torch.testing.assert_close(mean, torch.tensor([[4.0, 5.0], [8.0, 9.0]]))


def test_given_spans_are_rounded_clamped_and_swapped() -> None:
    start = torch.tensor([1.6, -3.0, 9.0, 4.0], dtype=torch.float64)
    end = torch.tensor([3.4, 0.2, 99.0, 2.0], dtype=torch.float64)
    first, last = interval_frames(start, end, 8)
    assert first.tolist() == [2, 0, 7, 2]
    assert last.tolist() == [3, 0, 7, 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("frames", [3, 257, 299, 1000])
def test_interval_means_in_16_bits_are_rounded_once(dtype: torch.dtype, frames: int) -> None:
    """The number of frames is not rounded: bfloat16 holds 299 as 300 and 1/299 to 8 bits."""
    generator = torch.Generator().manual_seed(frames)
    values = (60 + torch.randn(1, frames + 2, 40, generator=generator)).to(dtype)
    first, last = torch.tensor([1]), torch.tensor([frames])
    exact = values.double()[:, 1:-1].mean(1)
    mean = interval_mean(values, first, last)
    assert mean.dtype == dtype
    # Rounding to the dtype is off by half a unit in the last place; float32 sums add to it.
    error = ((mean.double() - exact) / exact).abs().max()
    assert error <= 0.5 * torch.finfo(dtype).eps + 1e-6 * (dtype == torch.float32) + 1e-7 * 60


def test_similar_relevance_in_16_bits_makes_no_ties() -> None:
    """Two frames whose products differ by less than bfloat16 resolves are not one interval."""
    evidence = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    keys = torch.tensor([[[4.0, 0.001], [0.0, 0.0], [4.0, 0.002]]], dtype=torch.bfloat16)
    curve = relevance(evidence, keys)
    first, last = best_interval(curve, torch.ones(1, 3, dtype=torch.bool), threshold=0.9)
    assert (first.item(), last.item()) == (2, 2)
    exact = torch.sigmoid((keys.double() @ evidence.double()[..., None])[..., 0] / 2**0.5)
    torch.testing.assert_close(curve.double(), exact, rtol=1e-6, atol=0)
