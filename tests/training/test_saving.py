import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.paths import GOLDEN
from tests.helpers.tokenizer_files import released_checkpoint
from tests.helpers.training_runs import FULL, RELEASED, tiny_model
from vidground.checkpoints.loading import load_model
from vidground.errors import CheckpointError
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.training.checkpoints import TRAINED
from vidground.training.config import ModelSource
from vidground.training.parameters import merged_state_dict, prepare_parameters
from vidground.training.saving import (
    AdapterWriter,
    MergedWriter,
    load_trained,
    merged,
    released_name,
    save_trained,
)
from vidground.training.starting_model import load_start

pytestmark = pytest.mark.smoke

LAYOUT = json.loads((GOLDEN / "official_layout.json").read_text())


def trained_names(model: D2VLM) -> tuple[str, ...]:
    return tuple(name for name, p in model.named_parameters() if p.requires_grad)


@torch.no_grad()
def moved(model: D2VLM) -> D2VLM:
    """The model with adapters, and with every parameter that learns changed at random."""
    torch.manual_seed(1)
    prepare_parameters(model, RELEASED)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def assert_equal(found: D2VLM, expected: dict[str, Tensor], *, atol: float = 0.0) -> None:
    tensors = found.state_dict()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=atol)


def test_merging_by_name_is_merging_by_module() -> None:
    model = moved(tiny_model())
    by_name, by_module = merged(model.state_dict(), RELEASED.lora), merged_state_dict(model)
    assert by_name.keys() == by_module.keys()
    for name, tensor in by_name.items():
        torch.testing.assert_close(tensor, by_module[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_model_loads_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    model = moved(tiny_model())
    writer = MergedWriter(model.config, model.tokenizers, dtype, RELEASED.lora)
    # What an earlier, larger model may have left in the folder.
    save_trained(tmp_path, model.state_dict(), trained_names(model))
    (tmp_path / TRAINED).rename(tmp_path / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    writer.write(tmp_path, model.state_dict())
    loaded = load_model(tmp_path)
    expected = merged(model.state_dict(), RELEASED.lora)
    assert_equal(loaded, {name: tensor.to(dtype) for name, tensor in expected.items()})
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype)[6:]
    assert loaded.tokenizers is not None
    assert loaded.tokenizers.encode("a red circle") == model.tokenizers.encode("a red circle")


def test_adapters_over_a_released_base_load_as_they_were(tmp_path: Path) -> None:
    base = released_checkpoint(tmp_path / "base")
    start = load_start(ModelSource(name=str(base)), seed=0)
    model = moved(start.model)
    assert start.base is not None
    writer = AdapterWriter(
        start.base.config, start.base.name, model.tokenizers, RELEASED.lora, trained_names(model)
    )
    writer.write(tmp_path / "run", model.state_dict())
    assert_equal(load_model(tmp_path / "run"), merged(model.state_dict(), RELEASED.lora), atol=1e-6)
    whole = load_file(tmp_path / "run" / "pytorch_model.safetensors")
    assert not any("vision_tower" in name for name in whole)
    assert (tmp_path / "run" / "adapter_model.safetensors").stat().st_size > 0


def test_every_trained_tensor_has_its_official_name() -> None:
    with torch.device("meta"):
        model = D2VLM(D2VLMConfig(qformer_config={"vocab_size": 30523}))
    prepare_parameters(model, RELEASED)
    whole = [name for name in trained_names(model) if ".lora_" not in name]
    shapes = {released_name(name): list(model.get_parameter(name).shape) for name in whole}
    assert len(shapes) == len(whole) > 100
    assert all(list(LAYOUT[name]) == shape for name, shape in shapes.items())


def test_a_tensor_without_a_place_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no place for vision\.layers\.0\.mlp\.fc1\.weight"):
        released_name("vision.layers.0.mlp.fc1.weight")


def test_training_goes_on_from_the_same_numbers(tmp_path: Path) -> None:
    model = moved(tiny_model())
    names = trained_names(model)
    save_trained(tmp_path, model.state_dict(), names)
    other = tiny_model()
    prepare_parameters(other, RELEASED)
    load_trained(other, tmp_path, names)
    for name in names:
        assert torch.equal(other.get_parameter(name), model.get_parameter(name))


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    model, full = moved(tiny_model()), tiny_model()
    prepare_parameters(full, FULL)
    save_trained(tmp_path, full.state_dict(), trained_names(full))
    with pytest.raises(CheckpointError, match="is not trained in this run; resume with the"):
        load_trained(model, tmp_path, trained_names(model))
    save_trained(tmp_path, full.state_dict(), trained_names(full)[1:])
    with pytest.raises(CheckpointError, match="lacks 1 parameter that this run trains"):
        load_trained(full, tmp_path, trained_names(full))
