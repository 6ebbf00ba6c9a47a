"""Read names, shapes and sizes of tensors from the headers of safetensors files.

Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from vidground.errors import CheckpointError
from vidground.settings import TimeTokens

_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

_WRAPPER = "base_model.model."  # peft's prefix of every name
_FACTOR = re.compile(r".*\.lora_[AB]\b.*")
_LINEAR = re.compile(r"(?:language_model|model)\.layers\.\d+\..*_proj\.weight")
"""Weights that `model.quantization` can store in fewer bits; both formats use these names."""

TIME_HEADS: dict[TimeTokens, str] = {"evidence": "evi_head.", "matching": "vid_head."}
"""Released names of the head on the states that predict a time token."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        shape: of the tensor.
        dtype: torch's name of it; None if it is not floating-point.
    """

    shape: tuple[int, ...]
    dtype: str | None


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Number of values in a model.

    Attributes:
        parameters: values of all tensors.
        linear_weights: those among them that `weights="int8"` or `"int4"` stores in fewer bits.
        linear_outputs: number of float32 scales that these then have.
    """

    parameters: int
    linear_weights: int
    linear_outputs: int

    def bytes_in(self, dtype: str) -> int:
        """Return the bytes of all weights in "float32", "bfloat16" or "float16"."""
        return self.parameters * _ITEM_BYTES[dtype]

    def bytes_with_int8(self, dtype: str) -> int:
        """Return the bytes of all weights with `weights="int8"` and everything else in `dtype`."""
        rest = self.parameters - self.linear_weights
        return self.linear_weights + 4 * self.linear_outputs + rest * _ITEM_BYTES[dtype]

    def bytes_with_int4(self, dtype: str) -> int:
        """Return the bytes of all weights with `weights="int4"` and everything else in `dtype`.

        Each group of 32 weights has two values in `dtype`, its scale and its middle.
        """
        rest = self.parameters - self.linear_weights + self.linear_weights // 16
        return self.linear_weights // 2 + rest * _ITEM_BYTES[dtype]


@contextmanager
def opened(path: Path, framework: Literal["pt", "np"]) -> Iterator[Any]:
    """Open a safetensors file for reading.

    Raises:
        CheckpointError: it is damaged or missing.
    """
    try:
        with safe_open(path, framework=framework) as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; fetch it again") from error


def read_headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Return the tensors of a model by plain name; the last file wins.

    Factors of low-rank updates, which will be merged, and the head that only a base model has are
    left out.

    Raises:
        CheckpointError: a file is damaged or missing.
    """
    found: dict[str, StoredTensor] = {}
    for path in files:
        with opened(path, "np") as stored:
            for name in stored.keys():  # noqa: SIM118 - the file is not a mapping
                if not _FACTOR.fullmatch(name):
                    part = stored.get_slice(name)
                    dtype = _FLOATS.get(part.get_dtype())
                    found[plain_name(name)] = StoredTensor(tuple(part.get_shape()), dtype)
    if any(name.startswith(TIME_HEADS["evidence"]) for name in found):
        return {name: tensor for name, tensor in found.items() if not of_base_only(name)}
    return found


def tensor_names(path: Path) -> frozenset[str]:
    """Return the names of the tensors in a safetensors file."""
    with opened(path, "np") as stored:
        return frozenset(stored.keys())


def stored_type(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the floating-point dtype that most values are stored in.

    Raises:
        CheckpointError: no tensor is float64, float32, float16 or bfloat16.
    """
    numbers: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype is not None:
            numbers[tensor.dtype] += math.prod(tensor.shape)
    if not numbers:
        raise CheckpointError("the checkpoint holds no floating-point tensors")
    return numbers.most_common(1)[0][0]


def size_of(shapes: Mapping[str, Sequence[int]]) -> ModelSize:
    """Return the size of a model with tensors of these shapes."""
    linear = [shape for name, shape in shapes.items() if _LINEAR.fullmatch(name)]
    return ModelSize(
        parameters=sum(map(math.prod, shapes.values())),
        linear_weights=sum(map(math.prod, linear)),
        linear_outputs=sum(shape[0] for shape in linear),
    )


def plain_name(saved: str) -> str:
    """Return the name of a tensor without the additions of peft's wrappers."""
    return saved.removeprefix(_WRAPPER).replace(".base_layer.", ".")


def of_base_only(released: str, time_tokens: TimeTokens = "evidence") -> bool:
    """Return whether a tensor of a base model is not part of a model trained on it.

    Args:
        released: its name.
        time_tokens: of the trained model, see `D2VLMConfig`.
    """
    return any(
        released.startswith(head) for kind, head in TIME_HEADS.items() if kind != time_tokens
    )
