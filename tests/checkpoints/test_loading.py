import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from tests.helpers.tokenizer_files import (
    GOLDEN_CHECKPOINT,
    etchat_checkpoint,
    make_language_tokenizer,
    released_checkpoint,
)
from vidground import Grounder
from vidground.checkpoints.loading import load_model
from vidground.checkpoints.released_format import translate
from vidground.devices import ChosenDtype
from vidground.errors import CheckpointError, InputError
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def golden() -> D2VLM:
    return load_model(GOLDEN_CHECKPOINT)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A copy of the golden checkpoint, to be changed."""
    return Path(shutil.copytree(GOLDEN_CHECKPOINT, tmp_path / "released"))


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_weights(folder: Path, **changes: Tensor | None) -> None:
    """Replace tensors (double underscores stand for dots), add them, or remove them by None."""
    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def assert_same(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert tensor.dtype == other.state_dict()[name].dtype
        assert torch.equal(tensor, other.state_dict()[name]), name


@torch.inference_mode()
def outputs(model: D2VLM) -> list[Tensor]:
    """One pass through every part, on fixed inputs of 300 positions."""
    random = torch.Generator().manual_seed(0)
    patches = model.encode_frames(torch.randn(2, 3, 56, 56, generator=random))
    tokens = model.compress(patches, torch.tensor([[2, 7, 9, 3]]))
    embeds = torch.randn(1, 300, tokens.shape[-1], generator=random)
    visible = torch.ones(1, 300, 300, dtype=torch.bool).tril()
    logits = model(embeds, torch.arange(300)[None], visible)
    return [patches, tokens, logits, model.frame_head(tokens), model.evidence_head(tokens)]


def test_a_loaded_model_equals_one_built_and_filled_by_torch(golden: D2VLM) -> None:
    usual = D2VLM(copy.deepcopy(golden.config)).eval()
    weights = load_file(GOLDEN_CHECKPOINT / "model.safetensors")
    usual.load_state_dict(dict(translate(weights.items())))
    for mine, theirs in zip(outputs(golden), outputs(usual), strict=True):
        assert torch.equal(mine, theirs)
    buffers = dict(usual.named_buffers())
    assert buffers.keys() == dict(golden.named_buffers()).keys()
    for name, buffer in golden.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_attributes_of_a_loaded_model(golden: D2VLM) -> None:
    assert not golden.training
    assert golden.dtype == torch.float32
    assert golden.config.turn_end_token_id == 0  # from generation_config.json
    assert golden.tokenizers is not None
    assert golden.tokenizers.language is None
    assert golden.name_or_path == str(GOLDEN_CHECKPOINT)
    assert golden.config._commit_hash is None
    assert golden.config._attn_implementation == "sdpa"


def test_the_requested_dtype_is_used(golden: D2VLM) -> None:
    model = load_model(GOLDEN_CHECKPOINT, dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    # Positions need more digits than bfloat16 has.
    assert model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    expected = golden.lm_head.weight.to(torch.bfloat16)
    assert torch.equal(model.lm_head.weight, expected)


def test_the_stored_dtype_is_the_default(released: Path) -> None:
    weights = load_file(released / "model.safetensors")
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    # One tensor of another type does not make a model of two types.
    halves["lm_head.weight"] = weights["lm_head.weight"]
    save_file(halves, released / "model.safetensors")
    for asked in (None, "auto"):
        model = load_model(released, dtype=asked)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def test_attention_can_be_chosen(golden: D2VLM) -> None:
    eager = load_model(GOLDEN_CHECKPOINT, attn_implementation="eager")
    assert eager.language_model.config._attn_implementation == "eager"
    for mine, theirs in zip(outputs(golden), outputs(eager), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attn_implementation": "flash_attention_2"}, "'flash_attention_2'.*'sdpa', 'eager'"),
        ({"dtype": "float33"}, "'float33'.*bfloat16"),
        ({"dtype": torch.int8}, "torch.int8.*bfloat16"),
        ({"device": "abacus"}, "device 'abacus' is unknown; use cpu"),
        ({"revision": "main"}, "is a folder and has none"),
        ({"device_map": "auto"}, "no option 'device_map'"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_model(GOLDEN_CHECKPOINT, **options)


@pytest.mark.parametrize("shard_size", ["50GB", "500KB"])
def test_a_saved_model_reloads_bit_for_bit(tmp_path: Path, shard_size: str) -> None:
    model = load_model(released_checkpoint(tmp_path / "released"))
    model.save_pretrained(tmp_path / "own", max_shard_size=shard_size)
    shards = list((tmp_path / "own").glob("*.safetensors"))
    assert (len(shards) > 1) == (shard_size == "500KB")

    again = D2VLM.from_pretrained(tmp_path / "own")
    assert_same(again, model)
    assert again.tokenizers is not None
    assert model.tokenizers is not None
    assert again.tokenizers.ids == model.tokenizers.ids
    text = "<evi>a dog</evi>"
    assert again.tokenizers.encode(text) == model.tokenizers.encode(text)
    assert again.tokenizers.question_ids("abc") == model.tokenizers.question_ids("abc")
    assert again.config.text_config.to_dict() == model.config.text_config.to_dict()
    for mine, theirs in zip(outputs(model), outputs(again), strict=True):
        assert torch.equal(mine, theirs)


def test_the_auto_classes_load_a_saved_model(golden: D2VLM, tmp_path: Path) -> None:
    golden.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), D2VLMConfig)
    model = AutoModel.from_pretrained(tmp_path)
    assert isinstance(model, D2VLM)
    assert_same(model, golden)
    changed = AutoModel.from_pretrained(tmp_path, evidence_threshold=0.5, dtype=torch.bfloat16)
    assert changed.config.evidence_threshold == 0.5
    assert changed.dtype == torch.bfloat16
    eager = AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"


def test_a_saved_model_does_not_claim_a_commit(golden: D2VLM, tmp_path: Path) -> None:
    model = copy.deepcopy(golden)
    model.config._commit_hash = "0" * 40
    model.save_pretrained(tmp_path)
    assert "0" * 40 not in (tmp_path / "config.json").read_text()


def test_pushing_to_the_hub_includes_the_tokenizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(released_checkpoint(tmp_path / "released"))
    pushed: set[str] = set()

    class Hub:
        def create_repo(self, repo_id: str, **_: object) -> "Hub":
            self.repo_id = repo_id
            return self

    class Card:
        def save(self, _: str) -> None:
            pass

    def upload(_: D2VLM, folder: str, *__: object, **___: object) -> None:
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        pushed.update(path.relative_to(folder).as_posix() for path in files)

    monkeypatch.setattr("transformers.utils.hub.hf_api", Hub)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: Card())
    monkeypatch.setattr(D2VLM, "_upload_modified_files", upload)
    model.push_to_hub("someone/model")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= pushed
    assert any(name.startswith("qformer_tokenizer/") for name in pushed)


def test_tensors_that_do_not_fit_are_named(released: Path) -> None:
    change_weights(
        released,
        evi_head__0__bias=None,
        vid_head__0__bias=torch.zeros(1),
        lm_head__weight=torch.zeros(8, 48),
    )
    with pytest.raises(CheckpointError) as caught:
        load_model(released)
    assert "1 missing (evidence_head.0.bias)" in str(caught.value)
    assert "1 unknown (vid_head.0.bias)" in str(caught.value)
    assert "1 of another shape (lm_head.weight (8, 48), expected (320, 48))" in str(caught.value)


@pytest.mark.parametrize("both", [True, False])
def test_a_model_says_times_in_one_way(released: Path, both: bool) -> None:
    change_config(released, use_matching=both, use_evidence=both)
    with pytest.raises(CheckpointError, match=f"use_matching is {both}; exactly"):
        load_model(released)


def test_et_chat_is_loaded_with_its_own_head_and_token(tmp_path: Path) -> None:
    folder = etchat_checkpoint(tmp_path)
    model = load_model(folder)
    assert (model.config.time_tokens, model.config.time_token_id) == ("matching", 301)
    expected = load_file(folder / "model.safetensors")["vid_head.3.weight"]
    torch.testing.assert_close(model.evidence_head[3].weight.detach(), expected, rtol=0, atol=0)
    make_language_tokenizer(folder)
    with pytest.raises(CheckpointError, match="lacks the token <vid>"):
        load_model(folder)


def test_ids_are_read_from_the_tokenizer(tmp_path: Path) -> None:
    folder = released_checkpoint(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": 99}')
    config = load_model(folder).config
    found = (config.evidence_token_id, config.evidence_end_token_id, config.turn_end_token_id)
    assert found == (301, 302, 0)


def test_a_tokenizer_of_another_model_is_refused(released: Path) -> None:
    make_language_tokenizer(released, evidence_id=310, evidence_end_id=311)
    with pytest.raises(CheckpointError, match=r"token_id 301, .*token_id 310, "):
        load_model(released)


def test_in_our_format_the_tokenizer_decides(golden: D2VLM, tmp_path: Path) -> None:
    golden.save_pretrained(tmp_path)
    make_language_tokenizer(tmp_path, evidence_id=310, evidence_end_id=311)
    assert load_model(tmp_path).config.evidence_token_id == 310


def test_pickles_are_refused_and_the_suggested_conversion_works(released: Path) -> None:
    weights = load_file(released / "model.safetensors")
    (released / "model.safetensors").unlink()
    names = sorted(weights)
    torch.save({n: weights[n] for n in names[:50]}, released / "pytorch_model-00001-of-00002.bin")
    torch.save({n: weights[n] for n in names[50:]}, released / "pytorch_model-00002-of-00002.bin")
    torch.save({"state": "of a run"}, released / "training_args.bin")
    with pytest.raises(CheckpointError, match="only as pickles") as caught:
        load_model(released)
    program = str(caught.value).split("\n\n", 1)[1]
    assert "weights_only=True" in program
    exec(program, {})
    assert load_model(released).name_or_path == str(released)


def test_a_folder_without_weights_is_refused(released: Path) -> None:
    (released / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights: neither model.safetensors nor"):
        load_model(released)


def test_a_missing_shard_is_named(golden: D2VLM, tmp_path: Path) -> None:
    golden.save_pretrained(tmp_path, max_shard_size="500KB")
    lost = sorted(tmp_path.glob("model-00002-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(CheckpointError, match=f"lacks 1 of .* weight files: {lost.name}"):
        load_model(tmp_path)


def test_two_sets_of_weights_are_refused(golden: D2VLM, tmp_path: Path) -> None:
    golden.save_pretrained(tmp_path, max_shard_size="500KB")
    shutil.copy(GOLDEN_CHECKPOINT / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="two sets of weights"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_damaged_configuration_is_named(released: Path, content: str | None) -> None:
    path = released / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(released)


class Layer(nn.Module):
    """The two projections of a released decoder layer that adapters change."""

    def __init__(self, weights: dict[str, Tensor], index: int) -> None:
        super().__init__()
        self.self_attn = nn.Module()
        for leaf in ("qkv_proj", "o_proj"):
            weight = weights[f"model.layers.{index}.self_attn.{leaf}.weight"]
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = nn.Parameter(weight.clone())
            self.self_attn.add_module(leaf, linear)


def save_adapter(released: Path, base_name: str) -> tuple[Path, dict[str, Tensor]]:
    """Turn `released` into a stage-2 base with an adapter beside it; return it and the sum."""
    weights = load_file(released / "model.safetensors")
    torch.manual_seed(0)
    tree = nn.Module()
    tree.model = nn.Module()
    tree.model.layers = nn.ModuleList(Layer(weights, i) for i in range(9))
    tuned = get_peft_model(
        tree, LoraConfig(r=4, lora_alpha=8, target_modules=["qkv_proj", "o_proj"])
    )
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    adapter = released.parent / "adapter"
    tuned.save_pretrained(str(adapter))
    heads = ("evi_head.", "frm_head.", "lm_head.", "model.embed_tokens.")
    trained = {n: torch.randn_like(t) for n, t in weights.items() if n.startswith(heads)}
    wrapped = {f"base_model.model.{name}": tensor for name, tensor in trained.items()}
    save_file(wrapped, adapter / "pytorch_model.safetensors")
    shutil.copy(released / "config.json", adapter)
    shutil.copy(released / "generation_config.json", adapter)
    shutil.copytree(released / "qformer_tokenizer", adapter / "qformer_tokenizer")
    change_config(adapter, model_name_or_path=base_name)

    change_weights(released, vid_head__0__bias=torch.zeros(48))
    for name in weights:
        if name.startswith("evi_head"):
            change_weights(released, **{name.replace(".", "__"): None})
    change_config(released, use_matching=True, use_evidence=False)
    return adapter, {**weights, **trained, **tuned.merge_and_unload().state_dict()}


@pytest.mark.parametrize("where", ["beside", "absolute"])
def test_an_adapter_is_merged_into_its_base(released: Path, where: str) -> None:
    name = released.name if where == "beside" else str(released)
    adapter, expected = save_adapter(released, name)
    found = load_model(adapter).state_dict()
    for key, tensor in translate(expected.items()):
        torch.testing.assert_close(found[key], tensor, rtol=1e-6, atol=1e-6)
    before = load_file(GOLDEN_CHECKPOINT / "model.safetensors")
    changed = "model.layers.8.self_attn.o_proj.weight"
    assert not torch.allclose(found[f"language_{changed}"], before[changed], atol=0.1)


def test_trained_tensors_without_an_adapter(released: Path) -> None:
    adapter, expected = save_adapter(released, released.name)
    (adapter / "adapter_model.safetensors").unlink()
    model = load_model(adapter)
    assert torch.equal(model.lm_head.weight, expected["lm_head.weight"])
    before = load_file(GOLDEN_CHECKPOINT / "model.safetensors")
    kept = "model.layers.8.self_attn.o_proj.weight"
    assert torch.equal(model.state_dict()[f"language_{kept}"], before[kept])


def test_an_adapter_without_its_base_is_refused(released: Path) -> None:
    adapter, _ = save_adapter(released, "./stage-2")
    with pytest.raises(CheckpointError, match=re.escape("the base of") + ".*no folder ./stage-2"):
        load_model(adapter)
    change_config(adapter, model_name_or_path=None)
    with pytest.raises(CheckpointError, match="names no base"):
        load_model(adapter)


def test_an_adapter_beside_our_format_is_refused(golden: D2VLM, tmp_path: Path) -> None:
    golden.save_pretrained(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapter beside a model in vidground's format"):
        load_model(tmp_path)


def test_a_sharded_save_replaces_an_earlier_single_file(tmp_path: Path) -> None:
    model = D2VLM.from_pretrained(GOLDEN_CHECKPOINT)
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert not (tmp_path / "model.safetensors").exists()
    again = D2VLM.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_uploading_while_saving_is_refused(tmp_path: Path) -> None:
    model = D2VLM.from_pretrained(GOLDEN_CHECKPOINT)
    with pytest.raises(InputError, match="leave out the tokenizers"):
        model.save_pretrained(tmp_path, push_to_hub=True)


def test_the_type_follows_the_device_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_model(GOLDEN_CHECKPOINT)
    parameters = sum(parameter.numel() for parameter in golden.parameters())
    asked: list[tuple[torch.device, int]] = []

    def choose(device: torch.device, count: int) -> ChosenDtype:
        asked.append((device, count))
        return ChosenDtype("float16", "a test wants it")

    monkeypatch.setattr("vidground.checkpoints.loading.choose_dtype", choose)
    assert load_model(GOLDEN_CHECKPOINT, dtype="device").dtype == torch.float16
    assert Grounder("toy").engine.model.dtype == torch.float16
    assert asked[0] == (torch.device("cpu"), pytest.approx(parameters, rel=1e-3))
    assert asked[1][0] == torch.device("cpu")
    assert Grounder("toy", dtype="bfloat16").engine.model.dtype == torch.bfloat16
    assert load_model(GOLDEN_CHECKPOINT).dtype == torch.float32  # as stored
    assert len(asked) == 2
