"""Models with random weights for timing, of the released size or of a size for CPUs.

Their answers are fixed: each token leads to a certain next one, every tenth is an `<evi>`, and none
ends the answer. So two ways of running such a model have the same work. The chain is built into the
weights, and every token is still the argmax of logits computed by all layers. The tokenizers are
synthetic too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, cast

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vidground.checkpoints.loading import Checkpoint, build_model
from vidground.devices import choose_device, choose_dtype
from vidground.errors import InputError
from vidground.language.tokenizers import (
    EVIDENCE,
    EVIDENCE_END,
    QUESTION_START,
    TURN_END,
    Tokenizers,
)
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM

Size = Literal["official", "mid"]

_SPREAD = 0.02
_EMBEDDING_SPREAD = 4.0
"""Large, so that a token's own embedding dominates what all layers add to it."""
_HEAD_GAIN = 2.0
"""Of each layer of the heads; large, so that relevance is not 0.5 everywhere."""
_CAPTION = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
_ASSISTANT = "<|assistant|>"
_CONTROLS = ("<unk>", TURN_END, "<|system|>", "<|user|>", _ASSISTANT, EVIDENCE, EVIDENCE_END)
_ANSWER = (_ASSISTANT, EVIDENCE_END, EVIDENCE, *_CAPTION, EVIDENCE)
"""Each token leads to the next; the last one begins the next caption."""


def random_model(
    size: Size,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    seed: int = 0,
) -> D2VLM:
    """Build a model for timing; the same arguments give the same weights.

    Args:
        size: "official" is the released size, 5.0 B parameters; "mid" has 0.12 B, and its parts
            share the time on a CPU about as those of the released size do on a GPU.
        device: of the weights.
        dtype: of the weights; None for the one that suits the device (`devices.choose_dtype`).
        seed: of the random numbers.

    Raises:
        InputError: the size is unknown.
    """
    sizes = {"official": official_config, "mid": mid_config}
    if size not in sizes:
        raise InputError(f"size of random weights is {size!r}; it must be {' or '.join(sizes)}")
    return randomized(sizes[size](), name=f"random-{size}", device=device, dtype=dtype, seed=seed)


def randomized(
    config: D2VLMConfig,
    *,
    name: str = "random",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    seed: int = 0,
) -> D2VLM:
    """Build a model of any size with random weights and synthetic tokenizers.

    Args:
        config: sizes of the model; its token ids are set to those of the tokenizers.
        name: of the model.
        device: see `random_model`.
        dtype: see `random_model`.
        seed: see `random_model`.
    """
    target = choose_device(device)
    tokenizers = Tokenizers(
        _language_tokenizer(config.text_config.vocab_size),
        _question_tokenizer(config.qformer_config.vocab_size),
    )
    ids = tokenizers.ids
    config.evidence_token_id, config.evidence_end_token_id = ids.evidence, ids.evidence_end
    config.turn_end_token_id = ids.turn_end
    config.text_config.pad_token_id = ids.pad
    config._attn_implementation = "sdpa"
    tensors = _tensors(config, tokenizers, torch.Generator(target).manual_seed(seed))
    checkpoint = Checkpoint(config, released=False, files=(), tensors=tensors)
    if dtype is None:
        dtype = getattr(torch, choose_dtype(target, parameter_count(config)).name)
    model = build_model(checkpoint, source=name, dtype=dtype, device=target)
    model.tokenizers = tokenizers
    model.name_or_path = config.name_or_path = name
    return model


def parameter_count(config: D2VLMConfig) -> int:
    """Return the number of parameters of a model of these sizes, without allocating it."""
    return sum(shape.numel() for shape in _shapes(config).values())


def _shapes(config: D2VLMConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in D2VLM(config).state_dict().items()}


def official_config() -> D2VLMConfig:
    """Return the released sizes."""
    return D2VLMConfig()


def mid_config() -> D2VLMConfig:
    """Return sizes for two CPU cores; most of the time of a caption goes into its tokens."""
    vision = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6}
    qformer = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4}
    text = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12}
    return D2VLMConfig(
        vision_config={**vision, "num_attention_heads": 3},
        qformer_config={**qformer, "num_attention_heads": 3, "encoder_hidden_size": 192},
        text_config={**text, "num_attention_heads": 12, "num_key_value_heads": 12},
        evidence_layer=3,
    )


def _tensors(
    config: D2VLMConfig, tokenizers: Tokenizers, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight: norms are 1 and biases 0, as before training; the rest is noise."""
    shapes = _shapes(config)
    embeddings, projection = "language_model.embed_tokens.weight", "lm_head.weight"

    def noise(name: str, spread: float) -> Tensor:
        tensor = torch.empty(shapes[name], device=generator.device)
        return tensor.normal_(std=spread, generator=generator)

    table = noise(embeddings, _EMBEDDING_SPREAD)
    rows = noise(projection, _SPREAD)
    ids = [tokenizers.encode(token)[0] for token in _ANSWER]
    for token, following in pairwise(ids):
        rows[following] += table[token] / _EMBEDDING_SPREAD
    yield embeddings, table
    yield projection, rows
    for name, shape in shapes.items():
        if name in (embeddings, projection):
            continue
        if len(shape) == 1:
            value = float(name.endswith("weight"))
            yield name, torch.full(shape, value, device=generator.device)
        else:
            in_head = name.startswith(("frame_head.", "evidence_head."))
            yield name, noise(name, _HEAD_GAIN / shape[1] ** 0.5 if in_head else _SPREAD)


def _language_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer with a token per word: letters, and synthetic words up to `size`."""
    words = [*_CONTROLS, *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"word{number}" for number in range(size - len(words))]
    backend = _word_level(words)
    backend.add_special_tokens([AddedToken(word, special=True) for word in _CONTROLS])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token=TURN_END)


def _question_tokenizer(size: int) -> PreTrainedTokenizerFast:
    controls = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", QUESTION_START]
    backend = _word_level(controls + [f"word{number}" for number in range(size - len(controls))])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token=QUESTION_START,
    )


def _word_level(words: list[str]) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    backend.normalizer = cast("normalizers.Normalizer", normalizers.Lowercase())
    backend.pre_tokenizer = cast("pre_tokenizers.PreTokenizer", pre_tokenizers.Whitespace())
    return backend
