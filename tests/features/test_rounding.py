"""Rounded features: close to the original, and unchanged by rounding twice."""

import pytest
import torch

from vidground.errors import InputError
from vidground.features.rounding import pack, unpack


def features() -> torch.Tensor:
    """Channels of very different magnitude, as encoders have; one of them is 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 7, 32, generator=generator) * torch.logspace(-3, 3, 32)
    values[:, :, 5] = 0
    return values


@pytest.mark.parametrize(("bits", "share"), [(16, 2**-11), (8, 0.5 / 127)])
def test_values_are_close_to_the_original(bits: int, share: float) -> None:
    wanted = features()
    found = unpack(pack(wanted, bits), bits, torch.float32)
    largest = wanted.abs().amax(1, keepdim=True)  # of a channel in a frame
    assert bool(((found - wanted).abs() <= largest * share * 1.01).all())
    assert not found.equal(wanted)


def test_rows_have_the_expected_size() -> None:
    assert pack(features(), 16).nbytes == 3 * 7 * 32 * 2
    assert pack(features(), 8).nbytes == 3 * (7 + 4) * 32


def test_frames_do_not_depend_on_one_another() -> None:
    together = pack(features(), 8)
    alone = torch.cat([pack(frame[None], 8) for frame in features()])
    assert together.equal(alone)


def test_bfloat16_is_unchanged() -> None:
    values = features().to(torch.bfloat16)
    assert unpack(pack(values, 16), 16, torch.bfloat16).equal(values)
    assert unpack(pack(values, 8), 8, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(("bits", "value"), [(16, 7e4), (16, float("nan")), (8, float("inf"))])
def test_overflow_is_refused(bits: int, value: float) -> None:
    values = features()
    values[1, 2, 3] = value
    with pytest.raises(InputError, match="--no-cache"):
        pack(values, bits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("bits", [8, 16])
def test_nan_is_refused(dtype: torch.dtype, bits: int) -> None:
    values = features().to(dtype)
    values[0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="patch features hold NaN or values beyond 65,504"):
        pack(values, bits)
