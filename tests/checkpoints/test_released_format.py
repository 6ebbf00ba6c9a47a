import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.helpers.paths import GOLDEN
from vidground.checkpoints.released_format import (
    check_supported,
    our_name,
    released_config,
    translate,
    turn_end_token,
)
from vidground.checkpoints.tensors import fill
from vidground.errors import CheckpointError
from vidground.model.d2vlm import D2VLM

META = torch.device("meta")

# Phi-3-mini-4k's sizes and the flags that the released model was trained with.
OFFICIAL: dict[str, Any] = {
    "model_type": "etchat_phi3",
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "sliding_window": 2047,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "use_evidence": True,
    "use_matching": False,
    "bi_attention": True,
    "evidence_token_id": 32011,
    "evidence_end_token_id": 32012,
    "conv_type": "phi3",
    "vision_processor": "clip_center_224",
    "vision_output_layer": -2,
    "vision_output_token": "patch",
    "mm_projector": "qformer",
}


def golden_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((GOLDEN / "checkpoint" / "config.json").read_text())
    return config


def test_the_official_layout_is_used_completely() -> None:
    layout = json.loads((GOLDEN / "official_layout.json").read_text())
    with META:
        model = D2VLM(released_config(OFFICIAL, source="official"))
    tensors = ((name, torch.empty(shape, device=META)) for name, shape in layout.items())
    used = fill(model, translate(tensors), source="official", dtype=torch.bfloat16, device=META)
    # 39 pairs of biases are one bias each here, and the stored positions are computed.
    assert used == len(layout) - 39 - 1
    # The keys' zero biases are ours alone; the stored positions are theirs alone.
    stored = sum(map(math.prod, layout.values()))
    ours = sum(parameter.numel() for parameter in model.parameters())
    assert ours == stored + 39 * 1408 - 512
    assert round(ours / 1e9, 2) == 5.02
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_etchat_has_the_same_layout_but_for_the_name_of_a_head() -> None:
    layout = json.loads((GOLDEN / "official_layout.json").read_text())
    flags = {"use_evidence": False, "use_matching": True, "match_token_id": 32011}
    config = {k: v for k, v in OFFICIAL.items() if not k.startswith("evidence_")} | flags
    with META:
        model = D2VLM(released_config(config, source="official"))
    assert (model.config.time_token_id, model.config.evidence_stage) == (32011, False)
    names = {name.replace("evi_head.", "vid_head."): shape for name, shape in layout.items()}
    tensors = [(name, torch.empty(shape, device=META)) for name, shape in names.items()]
    ours = translate(iter(tensors), "matching")
    used = fill(model, ours, source="official", dtype=torch.bfloat16, device=META)
    assert used == len(layout) - 39 - 1


def test_official_sizes_are_the_default() -> None:
    config = released_config(OFFICIAL, source="official")
    assert config.vision_config.num_hidden_layers == 39
    assert config.vision_config.hidden_size == 1408
    assert config.qformer_config.vocab_size == 30523
    assert config.qformer_config.encoder_hidden_size == 1408
    assert config.image_size == 224
    assert config.text_config.sliding_window is None


def test_sizes_of_the_configuration_are_used() -> None:
    config = released_config({**golden_config(), "alpha": 3}, source="golden")
    vision, qformer = config.vision_config, config.qformer_config
    assert (vision.image_size, vision.num_hidden_layers, vision.num_attention_heads) == (56, 3, 1)
    assert (qformer.hidden_size, qformer.num_hidden_layers, qformer.vocab_size) == (32, 4, 101)
    assert qformer.encoder_hidden_size == 88
    assert (config.evidence_token_id, config.evidence_end_token_id) == (301, 302)
    assert config.target_decay == 3.0


@pytest.mark.parametrize("theta", [10000.0, 500.0])
def test_rotary_base_is_taken_over(theta: float) -> None:
    config = released_config({**golden_config(), "rope_theta": theta}, source="golden")
    inverse = D2VLM(config).language_model.rotary_emb.inv_freq
    torch.testing.assert_close(inverse, theta ** (-torch.arange(0, 12, 2) / 12))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_type", "llama", "model_type is 'llama'.*'d2vlm'.*'etchat_phi3'"),
        ("use_matching", True, "use_evidence is True, use_matching is True"),
        ("use_evidence", False, "use_evidence is False, use_matching is False"),
        ("bi_attention", False, "bi_attention is False"),
        ("mm_projector", "mlp2x_gelu", "mm_projector is 'mlp2x_gelu'"),
        ("vision_output_token", "cls", "vision_output_token is 'cls'"),
        ("vision_output_layer", -1, "vision_output_layer is -1"),
        ("use_time_tag", True, "use_time_tag is True"),
        ("conv_type", "llama3", "conv_type is 'llama3'"),
        ("tie_word_embeddings", True, "tie_word_embeddings is True"),
    ],
)
def test_other_models_are_refused_by_name(key: str, value: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=f"^elsewhere.*{said}"):
        check_supported({**OFFICIAL, key: value}, "elsewhere")


@pytest.mark.parametrize("key", ["evidence_token_id", "vision_processor", "hidden_size"])
def test_an_incomplete_configuration_is_refused(key: str) -> None:
    config = {name: value for name, value in OFFICIAL.items() if name != key}
    with pytest.raises(CheckpointError, match=f"lacks {key}"):
        released_config(config, source="elsewhere")


def test_another_frame_processor_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'siglip_384'.*clip_center"):
        released_config({**OFFICIAL, "vision_processor": "siglip_384"}, source="elsewhere")


def test_turn_end_is_the_first_end_token_that_is_written_down() -> None:
    assert turn_end_token({"eos_token_id": 0}, {"eos_token_id": 7}, source="m") == 0
    assert turn_end_token({"eos_token_id": None}, {"eos_token_id": 7}, source="m") == 7
    with pytest.raises(CheckpointError, match=r"\[32000, 32007\].*tokenizer"):
        turn_end_token({"eos_token_id": [32000, 32007]}, source="m")
    with pytest.raises(CheckpointError, match="no eos_token_id and no tokenizer"):
        turn_end_token({}, {}, source="m")


def test_names() -> None:
    assert our_name("model.qformer_q_proj.1.weight") == "compressor.query_projection.1.weight"
    assert our_name("model.layers.7.mlp.down_proj.weight") == (
        "language_model.layers.7.mlp.down_proj.weight"
    )
    assert our_name("model.qformer_bert.bert.encoder.layer.3.crossattention.self.key.bias") == (
        "compressor.qformer.encoder.layer.3.crossattention.attention.key.bias"
    )
    assert our_name("vid_head.0.weight") is None


@given(order=st.permutations(range(4)))
def test_query_and_value_bias_become_one_in_any_order(order: list[int]) -> None:
    block = "model.vision_tower.vision_tower.blocks"
    stored = [
        (f"{block}.0.attn.q_bias", torch.tensor([1.0, 2.0])),
        (f"{block}.0.attn.v_bias", torch.tensor([3.0, 4.0])),
        (f"{block}.11.attn.v_bias", torch.tensor([7.0, 8.0])),
        (f"{block}.11.attn.q_bias", torch.tensor([5.0, 6.0])),
    ]
    found = {name: bias.tolist() for name, bias in translate(stored[i] for i in order)}
    assert found == {
        "vision.layers.0.self_attn.qkv.bias": [1, 2, 0, 0, 3, 4],
        "vision.layers.11.self_attn.qkv.bias": [5, 6, 0, 0, 7, 8],
    }


def test_half_a_bias_is_refused() -> None:
    name = "model.vision_tower.vision_tower.blocks.5.attn.q_bias"
    with pytest.raises(CheckpointError, match="vision block 5 has only its q_bias"):
        list(translate([(name, torch.zeros(2))]))


def test_an_unknown_tensor_keeps_its_name() -> None:
    assert [name for name, _ in translate([("vid_head.0.bias", torch.zeros(1))])] == [
        "vid_head.0.bias"
    ]


def test_every_golden_tensor_has_a_name_in_our_format() -> None:
    stored = load_file(GOLDEN / "checkpoint" / "model.safetensors")
    names = {name for name, _ in translate(stored.items())}
    assert names == D2VLM(released_config(golden_config(), source="golden")).state_dict().keys()
