"""Makes small language tokenizers in Phi-3's form, and complete checkpoints in the released form.

The tokenizer is a byte-fallback BPE with Llama's handling of spaces, every byte encodable, and
the control tokens at the ids that the golden checkpoint (tests/golden/checkpoint) gives them.
"""

import json
import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tests.helpers.paths import CHECKPOINT, GOLDEN

GOLDEN_CHECKPOINT = CHECKPOINT
ETCHAT_CHECKPOINT = GOLDEN / "etchat" / "checkpoint"
QUESTION_TOKENIZER = GOLDEN_CHECKPOINT / "qformer_tokenizer"

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_PIECES = [*"▁etaoinshrdlucmfwypvbgkjqxz0123456789.,-'<>?"]
_MERGES = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("▁", "a"), ("e", "r")]


def make_language_tokenizer(
    folder: Path,
    *,
    vocab_size: int = 320,
    evidence_id: int = 301,
    evidence_end_id: int = 302,
    turn_end_id: int = 0,
    pad_id: int = 0,
    prefix_space: bool = False,
) -> None:
    """Write tokenizer.json and tokenizer_config.json to `folder`.

    pad_id: equal to turn_end_id, that token pads too; otherwise a token <|endoftext|> is made.
    prefix_space: False is the form in which the released weights carry their tokenizer (text is
        taken as it is), True the form of the base model (a space before each chunk).
    """
    controls = {turn_end_id: "<|end|>", evidence_id: "<evi>", evidence_end_id: "</evi>"}
    if pad_id not in controls:
        controls[pad_id] = "<|endoftext|>"
    others = ["<unk>", "<s>", "</s>", *ROLES]
    others += [f"<0x{byte:02X}>" for byte in range(256)]
    others += [*_PIECES, *("".join(pair) for pair in _MERGES)]
    free = (i for i in range(vocab_size) if i not in controls)
    ids = dict(zip(others, free, strict=False))
    if len(ids) < len(others) or max(controls) >= vocab_size:
        raise ValueError(f"{len(others) + len(controls)} tokens do not fit into {vocab_size} ids")
    ids |= {token: i for i, token in controls.items()}

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _backend(ids, prefix_space=prefix_space)
    tokenizer.add_special_tokens([_special(token) for token in others[:6]])
    tokenizer.add_special_tokens([_special(token) for token in controls.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": None if prefix_space else False,
        "legacy": False,
        "bos_token": "<s>",
        "eos_token": controls[pad_id],
        "pad_token": controls[pad_id],
        "unk_token": "<unk>",
        "additional_special_tokens": ["<evi>", "</evi>"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def released_checkpoint(folder: Path, *, prefix_space: bool = False) -> Path:
    """Make `folder` a complete checkpoint in the released form: golden weights and tokenizers."""
    shutil.copytree(GOLDEN_CHECKPOINT, folder, dirs_exist_ok=True)
    make_language_tokenizer(folder, prefix_space=prefix_space)
    return folder


def etchat_checkpoint(folder: Path, *, language: bool = True) -> Path:
    """As `released_checkpoint`, of E.T. Chat, whose tokenizer has `<vid>` in place of `<evi>`."""
    shutil.copytree(ETCHAT_CHECKPOINT, folder, dirs_exist_ok=True)
    shutil.copytree(QUESTION_TOKENIZER, folder / QUESTION_TOKENIZER.name)
    if language:
        make_language_tokenizer(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            text = (folder / name).read_text().replace('"<evi>"', '"<vid>"')
            (folder / name).write_text(text)
    return folder


def _backend(ids: dict[str, int], *, prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=_MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[decoders.Decoder] = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if prefix_space:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        steps.append(decoders.Strip(content=" ", left=1))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="never", split=False
        )
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _special(token: str) -> AddedToken:
    # Phi-3's chat tokens swallow the whitespace that follows them.
    return AddedToken(token, special=True, normalized=False, rstrip=token.startswith("<|"))
