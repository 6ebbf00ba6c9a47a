"""Weights in 4 bits: what they are rounded to, and what is computed by kernel and without."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import vidground.model.int4_linear
from tests.helpers.video_files import make_video
from vidground import Grounder
from vidground.model.int4_linear import (
    GROUP,
    Int4Linear,
    kernel_block,
    pack,
    quantize_groups,
)
from vidground.model.int8_linear import Int8Linear
from vidground.model.quantization import linear_bits, quantize_linears

pytestmark = pytest.mark.numbers


def test_groups_are_rounded_as_by_hand() -> None:
    row = torch.zeros(1, 2 * GROUP)
    row[0, :3] = torch.tensor([-3.0, 12.0, 4.4])  # a range of 15: a scale of 1
    integers, scales = quantize_groups(row)
    assert integers[0, :4].tolist() == [0, 15, 7, 3]
    assert scales.tolist() == [[[1.0, 5.0], [0.0, 0.0]]]


def test_no_weight_is_off_by_more_than_half_a_scale() -> None:
    exact = torch.randn(50, 8 * GROUP, generator=torch.Generator().manual_seed(0))
    integers, scales = quantize_groups(exact)
    scale, middle = scales.unsqueeze(2).unbind(-1)
    stored = (integers.view(50, 8, GROUP).float() - 8) * scale + middle
    off = (stored - exact.view(50, 8, GROUP)).abs()
    assert (off <= scale / 2 * 1.001).all()
    assert off.amax() > 0.4 * scale.amin()


def test_a_byte_holds_an_output_of_each_half_of_a_block() -> None:
    integers = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]], dtype=torch.uint8)
    assert pack(integers, 4).tolist() == [[[1 + 16 * 5, 3 + 16 * 7], [2 + 16 * 6, 4 + 16 * 8]]]


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("tile_bytes", [1, 1 << 20])
def test_the_product_is_that_of_the_rounded_weights(
    kernel: bool,
    dtype: torch.dtype,
    bias: bool,
    rows: int,
    tile_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not kernel:
        monkeypatch.setattr(vidground.model.int4_linear, "kernel_block", lambda: None)
    monkeypatch.setattr(vidground.model.int4_linear, "_TILE_BYTES", {"cpu": tile_bytes})
    torch.manual_seed(0)
    layer = nn.Linear(2 * GROUP, 150, bias=bias, dtype=dtype)  # 150: no multiple of a block
    stored = Int4Linear(layer)
    integers, scales = quantize_groups(layer.weight.detach())
    scale, middle = scales.to(dtype).float().unsqueeze(2).unbind(-1)
    weight = ((integers.view(150, 2, GROUP).float() - 8) * scale + middle).view(150, -1)
    inputs = torch.randn(2, rows, 2 * GROUP).to(dtype)
    floats = None if layer.bias is None else layer.bias.float()
    expected = nn.functional.linear(inputs.float(), weight, floats)
    with torch.inference_mode():
        product = stored(inputs)
    assert product.dtype == dtype
    torch.testing.assert_close(product.float(), expected, rtol=0.02, atol=0.02)
    inputs.requires_grad_()
    stored(inputs).float().sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad[0, 0].float(), weight.sum(0), rtol=0.03, atol=0.1)


def test_a_kernel_with_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel_block() is None:
        pytest.skip("torch has no kernel for this processor")
    monkeypatch.setattr(vidground.model.int4_linear, "_BLOCKS", (16,))
    kernel_block.cache_clear()
    try:
        assert kernel_block() is None
    finally:
        kernel_block.cache_clear()


def test_layers_that_groups_do_not_fit_get_eight_bits() -> None:
    part = nn.Sequential(nn.Linear(2 * GROUP, 128, bias=False), nn.Linear(24, 8, bias=False))
    quantize_linears(part, 4)
    assert isinstance(part[0], Int4Linear)
    assert isinstance(part[1], Int8Linear)
    assert linear_bits(part) == 4
    stored = sum(b.numel() * b.element_size() for b in part[0].buffers())
    # 4 bits a weight, and two numbers of 32 bits for each group.
    assert stored == 2 * GROUP * 128 // 2 + 2 * 128 * 2 * 4
    assert copy.deepcopy(part)[0].weight.dtype == torch.uint8
    with pytest.raises(ValueError, match="24 inputs; 4-bit weights need a multiple of 32"):
        Int4Linear(nn.Linear(24, 8))


def test_the_toy_model_answers_with_them(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", frames=60, fps=5)
    full, stored = (Grounder("toy", device="cpu", weights=name) for name in ("full", "int4"))
    assert linear_bits(stored.engine.model.language_model) == 4
    expected, found = (g.query(film, "a red circle moves") for g in (full, stored))
    gap = torch.tensor(expected.relevance.values) - torch.tensor(found.relevance.values)
    assert 0 < gap.abs().amax() < 0.3
    assert found.provenance.settings["weight_bits"] == 4
