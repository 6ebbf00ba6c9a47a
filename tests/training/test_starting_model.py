import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tokenizer_files import etchat_checkpoint, released_checkpoint
from vidground.checkpoints.loading import load_model
from vidground.errors import CheckpointError, InputError
from vidground.training.config import ModelSource
from vidground.training.starting_model import base_for_adapters, load_start


def etchat_base(folder: Path, *, rows: int = 320, **config: object) -> Path:
    """The golden checkpoint as E.T. Chat leaves it: no heads, no `<evi>`, tables of `rows`."""
    released_checkpoint(folder)
    values = json.loads((folder / "config.json").read_text())
    for key in ("use_evidence", "evidence_token_id", "evidence_end_token_id"):
        del values[key]
    values |= {"bi_attention": False, "vocab_size": rows, **config}
    (folder / "config.json").write_text(json.dumps(values))
    tensors = load_file(folder / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if not n.startswith(("frm_head.", "evi_head."))}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        kept[name] = kept[name][:rows].clone()
    kept["vid_head.0.weight"] = torch.ones(48)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    _remove_evidence_tokens(folder)
    return folder


def _remove_evidence_tokens(folder: Path) -> None:
    """Take `<evi>` and `</evi>` out of the language tokenizer, and number the rest anew."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    known = sorted((t for t in vocabulary if "evi>" not in t), key=vocabulary.__getitem__)
    ids = {token: i for i, token in enumerate(known)}
    tokenizer["model"]["vocab"] = ids
    tokenizer["added_tokens"] = [
        token | {"id": ids[token["content"]]}
        for token in tokenizer["added_tokens"]
        if token["content"] in ids
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["additional_special_tokens"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_base_of_etchat_becomes_a_d2vlm(tmp_path: Path) -> None:
    start = load_start(ModelSource(name=str(etchat_base(tmp_path / "base"))), seed=3)
    golden = load_model(released_checkpoint(tmp_path / "golden"))
    tensors, expected = start.model.state_dict(), golden.state_dict()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        if not name.startswith(("frame_head.", "evidence_head.")):
            assert torch.equal(tensor, expected[name]), name
    weight = tensors["frame_head.1.weight"]
    assert 0.01 < float(weight.std()) < 0.03
    assert torch.equal(tensors["frame_head.0.weight"], torch.ones(48))
    assert not tensors["evidence_head.3.bias"].any()
    for seed in (3, 4):
        other = load_start(ModelSource(name=str(tmp_path / "base")), seed=seed).model
        assert torch.equal(other.state_dict()["frame_head.1.weight"], weight) == (seed == 3)


def test_new_tokens_are_taken_from_the_tokenizer(tmp_path: Path) -> None:
    model = load_start(ModelSource(name=str(etchat_base(tmp_path / "base"))), seed=0).model
    assert model.tokenizers is not None
    ids = model.tokenizers.ids
    assert (model.config.evidence_token_id, model.config.evidence_end_token_id) == (
        ids.evidence,
        ids.evidence_end,
    )
    assert model.tokenizers.encode("<evi></evi>") == [ids.evidence, ids.evidence_end]
    assert model.config.turn_end_token_id == ids.turn_end


def test_tables_without_room_grow_by_the_mean(tmp_path: Path) -> None:
    full = load_start(ModelSource(name=str(etchat_base(tmp_path / "full"))), seed=0).model
    assert full.tokenizers is not None
    first = full.tokenizers.ids.evidence
    assert first < 318
    base = etchat_base(tmp_path / "base", rows=first)
    grown = load_start(ModelSource(name=str(base)), seed=0).model
    for table in (grown.get_input_embeddings().weight, grown.lm_head.weight):
        assert table.shape == (first + 2, 48)
        torch.testing.assert_close(table[first:], table[:first].mean(0).expand(2, -1))
    assert grown.config.text_config.vocab_size == first + 2


def test_a_base_becomes_a_model_that_matches_frames(tmp_path: Path) -> None:
    base = etchat_base(tmp_path / "base", rows=312)
    model = load_start(ModelSource(name=str(base), time_tokens="matching"), seed=0).model
    assert model.tokenizers is not None
    assert (model.config.time_tokens, model.config.evidence_stage) == ("matching", False)
    assert model.tokenizers.encode("<vid>") == [model.config.time_token_id]
    assert torch.equal(model.evidence_head[0].weight, torch.ones(48))


def test_a_trained_model_keeps_its_way_of_saying_times(tmp_path: Path) -> None:
    folder = etchat_checkpoint(tmp_path)
    assert load_start(ModelSource(name=str(folder)), seed=0).config.matches
    with pytest.raises(CheckpointError, match=r"with time_tokens 'matching'.*Stage-2"):
        load_start(ModelSource(name=str(folder), time_tokens="evidence"), seed=0)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    base = released_checkpoint(tmp_path / "base")
    (base / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no language tokenizer"):
        load_start(ModelSource(name=str(base)), seed=0)


def test_a_toy_model_differs_by_seed_and_is_no_base_for_adapters() -> None:
    one, two = (load_start(ModelSource(init="toy"), seed=seed) for seed in (0, 1))
    assert not torch.equal(one.model.lm_head.weight, two.model.lm_head.weight)
    with pytest.raises(InputError, match="needs a full model in the released format"):
        base_for_adapters(one)
