from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from vidground.checkpoints.lora import LowRankUpdate, check_adapter, merge, read_updates
from vidground.checkpoints.model_folder import read_json
from vidground.checkpoints.stored_tensors import plain_name
from vidground.errors import CheckpointError

pytestmark = pytest.mark.smoke


PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}


class Block(nn.Module):
    """A module with the two kinds of layers that the released adapters change, and one more."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv_proj = nn.Linear(6, 18, bias=False)
        self.o_proj = nn.Linear(6, 6, bias=False)
        self.mlp = nn.Linear(6, 6)


def trained_adapter(folder: Path, **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Save a random adapter with peft; return the weights before and after peft's own merge."""
    torch.manual_seed(0)
    block = Block()
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    config = LoraConfig(r=4, lora_alpha=7, target_modules=["qkv_proj", "o_proj"], **options)
    model = get_peft_model(block, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    model.save_pretrained(str(folder))
    return before, model.merge_and_unload().state_dict()


def read(folder: Path) -> dict[str, LowRankUpdate]:
    tensors = load_file(folder / "adapter_model.safetensors")
    return read_updates(tensors.items(), read_json(folder / "adapter_config.json"), source="here")


@pytest.mark.parametrize("start", [True, "gaussian", "orthogonal"])
def test_merging_computes_what_peft_computes(tmp_path: Path, start: bool | str) -> None:
    before, expected = trained_adapter(tmp_path, init_lora_weights=start)
    merged = dict(merge(before.items(), read(tmp_path), source="here"))
    assert merged.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(merged[name], weight, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(merged["qkv_proj.weight"], before["qkv_proj.weight"], atol=0.1)


def test_update_by_hand() -> None:
    # B·A = [[3, 4], [6, 8]]; alpha / r = 2.
    update = LowRankUpdate(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0]]), 2.0)
    assert update.apply(torch.ones(2, 2)).tolist() == [[7, 9], [13, 17]]


def test_half_precision_is_merged_in_float32() -> None:
    # 256 + 1 is no bfloat16; summed there the update would be lost.
    update = LowRankUpdate(torch.ones(1, 1), torch.ones(1, 1), 1.0)
    merged = update.apply(torch.full((1, 1), 256.0, dtype=torch.bfloat16))
    assert merged.dtype == torch.float32
    assert merged.item() == 257.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_rslora": True}, "use_rslora=True"),
        ({"use_dora": True}, "use_dora=True"),
        ({"rank_pattern": {"o_proj": 2}}, "rank_pattern="),
        ({"alpha_pattern": {"o_proj": 2}}, "alpha_pattern="),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"modules_to_save": ["mlp"]}, "modules_to_save="),
    ],
)
def test_variants_are_refused_by_name(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    trained_adapter(tmp_path, **options)
    with pytest.raises(CheckpointError, match=f"{said}.*merge_and_unload"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"peft_type": "LOHA"}, "peft_type='LOHA'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"a_setting_of_tomorrow": True}, "a_setting_of_tomorrow=True"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_settings_that_are_refused(change: dict[str, Any], said: str) -> None:
    check_adapter(PLAIN, source="here")
    with pytest.raises(CheckpointError, match=f"here.*{said}"):
        check_adapter({**PLAIN, **change}, source="here")


def test_names_as_peft_and_as_the_released_trainer_write_them() -> None:
    pairs = [("base_model.model.m.lora_A.default.weight", 0), ("m.lora_B.weight", 1)]
    shapes = [(2, 5), (3, 2)]
    tensors = [(name, torch.zeros(shapes[i])) for name, i in pairs]
    assert read_updates(tensors, PLAIN, source="here").keys() == {"m.weight"}
    assert plain_name("base_model.model.m.base_layer.weight") == "m.weight"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"m.lora_A.weight": (2, 5)}, "m has only lora_A"),
        ({"m.lora_A.weight": (3, 5), "m.lora_B.weight": (3, 3)}, "rank is 2"),
        ({"m.lora_magnitude_vector": (3,)}, "lora_magnitude_vector is not a factor"),
    ],
)
def test_damaged_adapters(tensors: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_updates(((n, torch.zeros(s)) for n, s in tensors.items()), PLAIN, source="here")


def test_an_update_needs_its_weight() -> None:
    update = LowRankUpdate(torch.zeros(1, 4), torch.zeros(3, 1), 1.0)
    with pytest.raises(
        CheckpointError, match=r"updates without a weight: 1, the first is for m.weight"
    ):
        list(merge([("n.weight", torch.zeros(3, 4))], {"m.weight": update}, source="here"))
    with pytest.raises(CheckpointError, match=r"m.weight has shape \(3, 5\), its update \(3, 4\)"):
        list(merge([("m.weight", torch.zeros(3, 5))], {"m.weight": update}, source="here"))
