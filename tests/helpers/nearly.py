"""Results compared as two groupings of one computation are: equal but for rounding."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

import pytest

ROUNDING = 1e-4
"""What sums in another order may change in float32, in logits and relevance of the small models
that tests run: the batch, the processor and the number of threads choose the order."""


def assert_nearly_equal(found: object, expected: object, *, within: float = ROUNDING) -> None:
    """Assert that two results are equal, but that numbers may differ by `within`.

    Args:
        found, expected: dataclasses, mappings, sequences, numbers and texts, nested at will.
    """
    _compare(found, expected, within, "")


def _compare(found: object, expected: object, within: float, place: str) -> None:
    assert type(found) is type(expected), place
    if is_dataclass(expected):
        for field in fields(expected):
            name = field.name
            inner = f"{place}.{name}"
            _compare(getattr(found, name), getattr(expected, name), within, inner)
    elif isinstance(found, Mapping) and isinstance(expected, Mapping):
        assert set(found) == set(expected), place
        for key in expected:
            _compare(found[key], expected[key], within, f"{place}[{key!r}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=within, rel=0), place
    elif isinstance(found, Sequence) and isinstance(expected, Sequence) and found != expected:
        assert not isinstance(expected, str | bytes), f"{place}: {found!r} is not {expected!r}"
        assert len(found) == len(expected), place
        for index, (mine, other) in enumerate(zip(found, expected, strict=True)):
            _compare(mine, other, within, f"{place}[{index}]")
    else:
        assert found == expected, place
