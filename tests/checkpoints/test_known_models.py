"""Models by name: which folder of a repository is meant, and how large they are."""

import json

import pytest

from tests.helpers.paths import GOLDEN
from vidground.checkpoints.cached_models import OFFICIAL_SIZE
from vidground.checkpoints.known_models import KNOWN_MODELS, choose_folder, known_model
from vidground.checkpoints.stored_tensors import ModelSize, size_of


@pytest.mark.parametrize(
    ("folders", "d2vlm", "mcqa"),
    [
        ([""], "", None),
        (["D2VLM"], "D2VLM", None),
        (["weights"], "weights", None),
        (["d2vlm", "d2vlm_mcqa_enhanced"], "d2vlm", "d2vlm_mcqa_enhanced"),
        (["D2VLM", "D2VLM_mcqa_enhanced"], "D2VLM", "D2VLM_mcqa_enhanced"),
        (["d2vlm-3.8b", "D2VLM-MCQA"], "d2vlm-3.8b", "D2VLM-MCQA"),
        (["D2VLM", "D2VLM_mcqa_enhanced", "D2VLM_sft"], "D2VLM", "D2VLM_mcqa_enhanced"),
        (["d2vlm_fpo", "d2vlm_sft", "mcqa"], "d2vlm_fpo", "mcqa"),
        (["ETChat-Phi3-Mini-Stage-2", "final", "final_mcqa"], "final", "final_mcqa"),
        (["a/D2VLM", "a/D2VLM_mcqa_enhanced"], "a/D2VLM", "a/D2VLM_mcqa_enhanced"),
        (["D2VLM/last", "D2VLM_mcqa_enhanced/last"], "D2VLM/last", "D2VLM_mcqa_enhanced/last"),
        (["D2VLM/mcqa_enhanced", "D2VLM/paper"], "D2VLM/paper", "D2VLM/mcqa_enhanced"),
        (["", "d2vlm_mcqa_enhanced"], "", "d2vlm_mcqa_enhanced"),
        (["", "D2VLM", "D2VLM_mcqa_enhanced"], "D2VLM", "D2VLM_mcqa_enhanced"),
        (["D2VLM", "D2VLM/checkpoint-100"], "D2VLM", None),
        (["sft/D2VLM", "fpo/D2VLM"], "fpo/D2VLM", None),
        (["stage3/D2VLM", "stage3/D2VLM-MCQA"], "stage3/D2VLM", "stage3/D2VLM-MCQA"),
        # Not clear:
        (["d2vlm_a", "d2vlm_b"], None, None),
        (["a/D2VLM", "b/D2VLM"], None, None),
        (["mcqa_a", "mcqa_b"], None, None),
        (["d2vlm_sft"], None, None),
        ([], None, None),
    ],
)
def test_which_folder_holds_a_model(
    folders: list[str], d2vlm: str | None, mcqa: str | None
) -> None:
    for order in (folders, folders[::-1]):
        assert choose_folder(KNOWN_MODELS["d2vlm"], order) == d2vlm
        assert choose_folder(KNOWN_MODELS["d2vlm-mcqa"], order) == mcqa


def test_names() -> None:
    for name in ("d2vlm-mcqa", "D2VLM_mcqa_enhanced", "d2vlm_mcqa"):
        assert known_model(name) is KNOWN_MODELS["d2vlm-mcqa"]
    assert known_model("D2VLM") is KNOWN_MODELS["d2vlm"]
    for name in ("", "d2vlm2", "./d2vlm", "owner/d2vlm", "/d2vlm", "~/toy", "wenzhengzeng/D2VLM"):
        assert known_model(name) is None


def test_the_released_size_is_that_of_its_layout() -> None:
    layout = json.loads((GOLDEN / "official_layout.json").read_text())
    assert size_of(layout.get("tensors", layout)) == OFFICIAL_SIZE


def test_bytes_of_a_model() -> None:
    shapes = {
        "model.layers.0.mlp.up_proj.weight": (10, 4),
        "language_model.layers.1.self_attn.o_proj.weight": (4, 4),
        "model.layers.0.norm.weight": (4,),
        "model.vision_tower.layers.0.mlp.up_proj.weight": (3, 2),
        "lm_head.weight": (5, 4),
    }
    size = size_of(shapes)
    assert size == ModelSize(parameters=86, linear_weights=56, linear_outputs=14)
    assert (size.bytes_in("float32"), size.bytes_in("bfloat16")) == (344, 172)
    assert size.bytes_with_int8("bfloat16") == 56 + 14 * 4 + 30 * 2
    assert size.bytes_with_int4("bfloat16") == 28 + (30 + 3) * 2
