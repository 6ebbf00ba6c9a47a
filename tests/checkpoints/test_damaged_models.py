"""Model folders that are damaged or hostile: one clear error each; nothing hangs or is run."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidground.checkpoints.known_models import KNOWN_MODELS
from vidground.checkpoints.loading import load_model
from vidground.errors import CheckpointError

TOY = KNOWN_MODELS["toy"].folder
assert TOY is not None
CONFIG: dict[str, Any] = json.loads((TOY / "config.json").read_text())
TOKENIZER: dict[str, Any] = json.loads((TOY / "tokenizer.json").read_text())
PARTS = ("text_config", "qformer_config", "vision_config")
NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model; the weights are linked."""
    folder = tmp_path / "model"
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(TOY / "model.safetensors")
    return folder


def refused(folder: Path) -> str:
    """The message with which a folder is refused, which is one line."""
    with pytest.raises(CheckpointError) as error:
        load_model(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def changed(keys: tuple[str, ...], value: object) -> str:
    content = copy.deepcopy(CONFIG)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return json.dumps(content)


SIZES = [(part, name) for part in PARTS for name in ("hidden_size", "num_hidden_layers")] + [
    ("text_config", "vocab_size"),
    ("text_config", "num_key_value_heads"),
    ("qformer_config", "cross_attention_frequency"),
    ("vision_config", "patch_size"),
    ("vision_config", "image_size"),
]


@pytest.mark.parametrize("value", [0, -1, 10**9, "x", None, [1], NAN, 2.5], ids=repr)
@pytest.mark.parametrize("keys", SIZES, ids=".".join)
def test_sizes_that_are_impossible(folder: Path, keys: tuple[str, ...], value: object) -> None:
    if (keys[1], value) == ("num_key_value_heads", None):
        pytest.skip("means as many as attention heads")
    (folder / "config.json").write_text(changed(keys, value))
    assert keys[1] in refused(folder)


@pytest.mark.parametrize("part", PARTS)
def test_layers_are_counted_before_any_is_built(folder: Path, part: str) -> None:
    (folder / "config.json").write_text(changed((part, "num_hidden_layers"), 999))
    assert f"{part}.num_hidden_layers is 999, and the weights have" in refused(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        *((("evidence_threshold",), value) for value in (NAN, 0, -1, 2, "x", None)),
        *((("evidence_layer",), value) for value in (-1, 9, "x", None)),
        *((("target_decay",), value) for value in (NAN, 0.5, "x")),
        *((("max_frames",), value) for value in (0, -1, "x", NAN)),
        *((("num_query_tokens",), value) for value in (0, 10**9, [8])),
        (("time_tokens",), "guess"),
        (("dtype",), [3]),
        (("text_config", "hidden_act"), "nope"),
        (("text_config", "hidden_act"), 3),
        (("text_config", "rms_norm_eps"), -1),
        (("text_config", "attention_dropout"), 7),
        (("text_config", "num_attention_heads"), 3),
        (("text_config", "rope_parameters"), {"rope_type": "bogus"}),
        (("text_config", "rope_parameters"), {"rope_type": "longrope"}),
        (("text_config", "rope_parameters"), [1]),
        (("text_config", "max_position_embeddings"), 0),
        (("qformer_config", "chunk_size_feed_forward"), "x"),
        *(((part,), value) for part in PARTS for value in ("x", [1], 3)),
    ],
)
def test_other_values_that_are_impossible(
    folder: Path, keys: tuple[str, ...], value: object
) -> None:
    (folder / "config.json").write_text(changed(keys, value))
    refused(folder)


TEXTS = {
    "empty": "",
    "list": "[1]",
    "null": "null",
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "digits": '{"a": ' + "9" * 5000 + "}",
    "cut": '{"a": {"b"',
    "binary": "\x00\x01\udcff",
}
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_what_they_should_be(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    if (name, text) == ("tokenizer_config.json", TEXTS["digits"]):
        pytest.skip("an unknown key")
    refused(folder)


@pytest.mark.parametrize("name", [*FILES, "model.safetensors"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    try:
        model = load_model(folder)
    except CheckpointError:
        return
    assert name == "tokenizer.json", "a model may lack its language tokenizer, and nothing else"
    assert model.tokenizers is not None
    assert model.tokenizers.language is None


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        *({"weight_map": value} for value in (None, [], "x", {})),
        *(
            {"weight_map": {"a": value}}
            for value in (1, None, ["x"], "../x", "/etc/passwd", "gone.safetensors", "x\0y")
        ),
    ],
    ids=repr,
)
def test_indexes_that_name_no_files_of_the_folder(folder: Path, content: object) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert "/etc/passwd cannot" not in refused(folder)


def split(pattern: str) -> dict[str, object]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(model=None),
        lambda t: t["model"].update(vocab={}),
        lambda t: t["model"].update(merges=[["zzz", "qqq"]]),
        lambda t: t["model"]["vocab"].update(zzz=10**12),
        lambda t: t.update(added_tokens=[{"id": -1, "content": "x"}]),
        lambda t: t.update(pre_tokenizer=split("(((")),
    ],
)
def test_damaged_tokenizers(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = copy.deepcopy(TOKENIZER)
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "tokenizer" in refused(folder)


def test_an_expression_that_runs_away_ends_in_an_error(folder: Path) -> None:
    content = {**TOKENIZER, "pre_tokenizer": split("(a+)+$(x+x+)+y")}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizers = load_model(folder).tokenizers
    assert tokenizers is not None
    with pytest.raises(CheckpointError, match="the tokenizer cannot read 'aaa"):
        tokenizers.encode("a" * 60 + "!")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("added_tokens_decoder", 3),
        ("model_max_length", "x"),
        ("eos_token", 3),
        ("pad_token", {"a": 1}),
    ],
)
def test_damaged_tokenizer_settings(folder: Path, key: str, value: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert "tokenizer" in refused(folder)


def test_code_beside_a_model_is_not_run(folder: Path) -> None:
    ran = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    path = folder / "tokenizer_config.json"
    names = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **names}))
    load_model(folder)
    assert not ran.exists()
