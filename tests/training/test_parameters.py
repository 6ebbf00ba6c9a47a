"""What learns: the released set by name and count, and that a step moves it and nothing else."""

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from tests.helpers.training_cases import golden_model, sft_samples
from vidground.errors import InputError
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.objectives.objective import SftObjective
from vidground.training.objectives.settings import (
    LoraSettings,
    ParameterSettings,
    SftSettings,
    TrainedSet,
)
from vidground.training.objectives.sft import sft_losses
from vidground.training.parameters import (
    ParameterCounts,
    count_parameters,
    merge_adapters,
    merged_state_dict,
    parameter_groups,
    prepare_parameters,
)

SMALL = ParameterSettings(lora=LoraSettings(rank=4, alpha=8, dropout=0.0))
H, V, WIDTH, QFORMER, LAYERS = 3072, 32064, 1408, 768, 32  # of the released model


def loss_of(model: D2VLM) -> torch.Tensor:
    settings = SftSettings()
    batch = Collator.of(model.config, settings)(sft_samples(model))
    return sft_losses(model, batch, settings).total(settings)


def test_counts_of_the_released_model() -> None:
    with torch.device("meta"):
        model = D2VLM(D2VLMConfig())
        prepare_parameters(model, ParameterSettings())
    head = 2 * H + (H * H // 2 + H // 2) + (H // 2 * H + H)
    attention = 4 * (QFORMER * QFORMER + QFORMER) + 2 * QFORMER
    cross = 2 * (QFORMER * QFORMER + QFORMER) + 2 * (WIDTH * QFORMER + QFORMER) + 2 * QFORMER
    projection = 2 * WIDTH + WIDTH * WIDTH + WIDTH
    surroundings = (
        *(32 * QFORMER, 2 * WIDTH, QFORMER * WIDTH + WIDTH, 2 * projection),
        2 * WIDTH + WIDTH * H + H,
    )
    in_full = 2 * V * H + 2 * head + 12 * attention + 6 * cross + sum(surroundings)
    adapters = LAYERS * 128 * ((H + 3 * H) + (H + H))
    found = count_parameters(model)
    assert found == ParameterCounts(total=5_020_999_040, in_full=in_full, adapters=adapters)
    assert (in_full, adapters) == (273_760_384, 75_497_472)
    assert str(found).startswith("349,257,856 of 5,096,496,512 parameters are trained (6.85%)")


def test_groups_have_their_own_rates() -> None:
    model = golden_model()
    prepare_parameters(model, SMALL)
    in_full, adapters = parameter_groups(model, SMALL)
    assert (in_full["lr"], adapters["lr"]) == (2e-5, 5e-5)
    assert in_full["weight_decay"] == adapters["weight_decay"] == 0
    counts = count_parameters(model)
    assert sum(p.numel() for p in in_full["params"]) == counts.in_full
    assert sum(p.numel() for p in adapters["params"]) == counts.adapters
    assert len(adapters["params"]) == 9 * 2 * 2
    (only,) = parameter_groups(golden_model(), SMALL)
    assert only["name"] == "in_full"


def test_a_step_moves_the_released_set_and_nothing_else() -> None:
    model = golden_model()
    prepare_parameters(model, SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, SMALL))
    for _ in range(2):  # adapters start at zero in one factor, so the other moves one step later
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    patterns = (
        *(r"language_model\.embed_tokens\.weight", r"lm_head\.weight"),
        r"language_model\.layers\.\d+\.self_attn\.(qkv_proj|o_proj)\.lora_[AB]\.default\.weight",
        *(r"(frame|evidence)_head\.[013]\.(weight|bias)", r"compressor\.queries"),
        r"compressor\.patch_norm\.(weight|bias)",
        r"compressor\.output_projection\.(weight|bias)",
        r"compressor\.(query|key|value)_projection\.[01]\.(weight|bias)",
        r"compressor\.qformer\.encoder\.layer\.\d+\.(cross)?attention\.attention\.\w+\.\w+",
        r"compressor\.qformer\.encoder\.layer\.\d+\.(cross)?attention\.output\.\w+\.\w+",
    )
    expected = {n for n in before if any(re.fullmatch(pattern, n) for pattern in patterns)}
    assert moved == expected
    assert len(expected) == sum(p.requires_grad for p in model.parameters())


def test_full_training_moves_every_part() -> None:
    model = golden_model()
    settings = ParameterSettings(trained="full", learning_rate=1e-3)
    prepare_parameters(model, settings)
    assert count_parameters(model).in_full == count_parameters(model).total
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, settings))
    loss_of(model).backward()
    optimizer.step()
    still = {name for name, tensor in model.state_dict().items() if tensor.equal(before[name])}
    # Of the Q-Former's last layer only what the queries become is read, not the question's tokens.
    last = "compressor.qformer.encoder.layer.3"
    unread = ("intermediate.dense", "output.dense", "output.LayerNorm")
    assert still == {f"{last}.{part}.{kind}" for part in unread for kind in ("weight", "bias")}


def test_a_kept_vision_encoder_and_a_slower_compressor() -> None:
    model = golden_model()
    settings = ParameterSettings(
        trained="full-but-vision", learning_rate=1e-2, compressor_learning_rate=1e-3
    )
    prepare_parameters(model, settings)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {n for n, _ in model.named_parameters()} - learns == {
        f"vision.{name}" for name, _ in model.vision.named_parameters()
    }
    in_full, compressor = parameter_groups(model, settings)
    assert (in_full["lr"], compressor["lr"]) == (1e-2, 1e-3)
    own = list(model.compressor.parameters())
    assert sum(p.numel() for p in compressor["params"]) == sum(p.numel() for p in own)
    objective = SftObjective(model, SftSettings())  # names begin with the model's here
    assert [len(g["params"]) for g in parameter_groups(objective, settings)] == [
        len(in_full["params"]),
        len(own),
    ]


def test_a_slower_evidence_memory() -> None:
    model = golden_model()
    settings = ParameterSettings(trained="language", learning_rate=1e-2, memory_learning_rate=1e-3)
    prepare_parameters(model, settings)
    in_full, memory = parameter_groups(SftObjective(model, SftSettings()), settings)
    assert (in_full["lr"], memory["lr"]) == (1e-2, 1e-3)
    first = model.language_model.layers[: model.config.evidence_layer]
    assert list(map(id, memory["params"])) == list(map(id, first.parameters()))
    counts = count_parameters(model)
    assert sum(p.numel() for g in (in_full, memory) for p in g["params"]) == counts.in_full


def test_rates_are_above_zero() -> None:
    for name in ("learning_rate", "memory_learning_rate"):
        with pytest.raises(InputError, match=f"{name} is 0"):
            ParameterSettings(**{name: 0.0})


@pytest.mark.parametrize(("trained", "part"), [("language", "compressor"), ("released", "memory")])
def test_a_rate_that_no_parameter_has_is_refused(trained: TrainedSet, part: str) -> None:
    rate = {f"{part}_learning_rate": 1e-4}
    with pytest.raises(InputError, match=f"{part}_learning_rate is 0.0001, and with"):
        ParameterSettings(trained=trained, **rate)
    ParameterSettings(trained="full", **rate)


def test_a_kept_vision_part() -> None:
    model = golden_model()
    prepare_parameters(model, ParameterSettings(trained="language"))
    kept = {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
    learns = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert kept == {"vision", "compressor"}
    assert learns == {"language_model", "lm_head", "frame_head", "evidence_head"}
    objective = SftObjective(model, SftSettings()).train()
    assert not objective.d2vlm.compressor.training
    assert objective.d2vlm.language_model.training


@pytest.mark.parametrize("trained", get_args(TrainedSet))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_of_any_type_train_in_any_precision(
    stored: torch.dtype, precision: torch.dtype, trained: TrainedSet
) -> None:
    model = golden_model().to(stored)
    prepare_parameters(model, ParameterSettings(trained=trained), precision=precision)
    frozen = torch.float32 if torch.float32 in (stored, precision) else torch.bfloat16
    for parameter in model.parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else frozen)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != torch.float32):
        loss = loss_of(model)
    loss.backward()
    expected = loss_of(golden_model()).item()
    assert loss.item() == pytest.approx(expected, rel=0.05)


@pytest.fixture
def adapted() -> D2VLM:
    torch.manual_seed(0)
    model = golden_model()
    prepare_parameters(model, SMALL)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_merged_weights_compute_the_same(adapted: D2VLM) -> None:
    expected = loss_of(adapted)
    assert (expected - loss_of(golden_model())).abs().item() > 1e-2
    merged = merged_state_dict(adapted)
    plain = golden_model()
    name, tensors = "language_model.layers.3.self_attn.o_proj", adapted.state_dict()
    factors = [tensors[f"{name}.lora_{factor}.default.weight"] for factor in "BA"]
    update = factors[0] @ factors[1] * (8 / 4)  # alpha / rank
    torch.testing.assert_close(
        merged[f"{name}.weight"], plain.state_dict()[f"{name}.weight"] + update
    )
    plain.load_state_dict(merged)
    torch.testing.assert_close(loss_of(plain), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss_of(adapted), expected)  # left as it was
    merge_adapters(adapted)
    assert adapted.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(loss_of(adapted), expected, rtol=1e-5, atol=0)


def test_a_merged_model_reloads(adapted: D2VLM, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path, state_dict=merged_state_dict(adapted))
    torch.testing.assert_close(
        loss_of(D2VLM.from_pretrained(tmp_path)), loss_of(adapted), rtol=1e-5, atol=0
    )
