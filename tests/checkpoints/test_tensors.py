from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidground.checkpoints.stored_tensors import tensor_names
from vidground.checkpoints.tensors import fill, read_tensors, stored_dtype
from vidground.errors import CheckpointError

CPU = torch.device("cpu")


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("steps", torch.zeros(4, dtype=torch.int64))


TENSORS: dict[str, Tensor] = {
    "linear.weight": torch.arange(6.0).reshape(3, 2),
    "linear.bias": torch.tensor([1.0, 2.0, 3.0]),
    "steps": torch.arange(4),
}


def filled(tensors: list[tuple[str, Tensor]], dtype: torch.dtype = torch.float32) -> Part:
    with torch.device("meta"):
        part = Part()
    assert fill(part, tensors, source="here", dtype=dtype, device=CPU) == 3
    return part


def test_every_tensor_is_copied_to_its_parameter() -> None:
    source = {name: tensor.clone() for name, tensor in TENSORS.items()}
    part = filled(list(source.items()))
    for tensor in source.values():
        tensor.zero_()
    for name, tensor in part.state_dict().items():
        assert torch.equal(tensor, TENSORS[name])
    assert all(parameter.requires_grad for parameter in part.parameters())
    assert [name for name, _ in part.named_buffers()] == ["steps"]


def test_only_floating_point_tensors_change_their_type() -> None:
    part = filled(list(TENSORS.items()), torch.bfloat16)
    assert part.linear.weight.dtype == torch.bfloat16
    assert part.get_buffer("steps").dtype == torch.int64


def test_all_mismatches_are_reported_at_once() -> None:
    tensors = [
        ("linear.weight", torch.zeros(2, 3)),
        ("steps", TENSORS["steps"]),
        ("steps", TENSORS["steps"]),
        ("extra", torch.zeros(1)),
    ]
    with pytest.raises(CheckpointError) as caught:
        filled(tensors)
    assert str(caught.value) == (
        "here: the tensors do not fit the model: 1 missing (linear.bias); 2 unknown "
        "(steps (twice), extra); 1 of another shape (linear.weight (2, 3), expected (3, 2))"
    )


def test_long_lists_are_shortened_and_counted() -> None:
    extra = [(f"extra.{i}", torch.zeros(1)) for i in range(12)]
    with pytest.raises(CheckpointError, match=r"12 unknown \(extra.0, .*, … 7 more\)"):
        filled([*TENSORS.items(), *extra])


def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    save_file({"b": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "1.safetensors")
    save_file({"c": torch.ones(2)}, tmp_path / "2.safetensors")
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    assert [name for name, _ in read_tensors(files)] == ["a", "b", "c"]
    assert [name for name, _ in read_tensors(files, skip={"b"})] == ["a", "c"]
    assert tensor_names(files[0]) == {"a", "b"}


def test_the_type_of_most_values_is_the_stored_one(tmp_path: Path) -> None:
    tensors = {
        "many": torch.zeros(3, 3, dtype=torch.bfloat16),
        "few": torch.zeros(8),
        "counts": torch.zeros(50, dtype=torch.int64),
    }
    save_file(tensors, tmp_path / "w.safetensors")
    assert stored_dtype([tmp_path / "w.safetensors"]) == torch.bfloat16
    save_file({"counts": tensors["counts"]}, tmp_path / "i.safetensors")
    with pytest.raises(CheckpointError, match="no floating-point"):
        stored_dtype([tmp_path / "i.safetensors"])


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"w.safetensors cannot be read.*fetch it again"):
        list(read_tensors([path]))
