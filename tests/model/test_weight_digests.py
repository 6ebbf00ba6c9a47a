"""Digests of weights, whose values are stored in caches, exports and records."""

import copy

import pytest
import torch
from torch import nn

from vidground.model.weight_digests import (
    full_digest,
    quick_digest,
    rounded_digest,
    sampled_digest,
)


@pytest.fixture
def part() -> nn.Module:
    part = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    with torch.no_grad():
        for number, values in enumerate(part.parameters()):
            values.copy_(torch.arange(values.numel()).reshape(values.shape) / 8 + number)
    return part


def test_stored_digests_stay_what_they_are(part: nn.Module) -> None:
    """Other values would orphan cached features, exports and predictions of earlier versions."""
    assert quick_digest(part).startswith("d4c10fcb8b32f663c1d37cf8f017d90f")
    assert rounded_digest(part).startswith("d533d6561a95ee67dfcdcf36250969f2")
    assert full_digest(part, torch.float32).startswith("42471b12b0c93ee2c17dccc16656ada1")
    assert sampled_digest(part).startswith("99d4a6268d7e94169658495c3ec261c7")


def test_a_changed_weight_changes_every_digest(part: nn.Module) -> None:
    changed = copy.deepcopy(part)
    with torch.no_grad():
        changed.get_parameter("1.bias")[0] += 0.5
    for digest in (quick_digest, rounded_digest, sampled_digest):
        assert digest(part) == digest(copy.deepcopy(part)) != digest(changed)
    one, other = (full_digest(module, torch.float32) for module in (part, changed))
    assert one != other
    assert one != full_digest(part, torch.float16)


def test_the_quick_digest_sees_values_between_the_sampled_ones() -> None:
    part = nn.Linear(1000, 100)
    before, sampled = quick_digest(part), sampled_digest(part)
    with torch.no_grad():
        part.weight[0, 3] += 1
    assert quick_digest(part) != before
    assert sampled_digest(part) == sampled


def test_rounded_digests_do_not_depend_on_the_dtype(part: nn.Module) -> None:
    half = part.half()
    digest = rounded_digest(half)
    assert rounded_digest(copy.deepcopy(half).float()) == digest
    assert rounded_digest(copy.deepcopy(half).bfloat16()) == digest
