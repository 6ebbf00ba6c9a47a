"""Check that a configuration describes a model that can be built, before anything is built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN

from vidground.errors import CheckpointError
from vidground.model.configuration import D2VLMConfig
from vidground.storage.files import printable

_MOST = 1 << 20
_SIZES = {
    "hidden_size": _MOST,
    "intermediate_size": _MOST,
    "num_hidden_layers": 1000,
    "num_attention_heads": 4096,
}
"""Integers from 1 in every part, with the largest that is accepted."""
_PARTS: dict[str, dict[str, int]] = {
    "text_config": {
        **_SIZES,
        "num_key_value_heads": 4096,
        "vocab_size": 1 << 24,
        "max_position_embeddings": 1 << 30,
    },
    "qformer_config": {
        **_SIZES,
        "vocab_size": 1 << 24,
        "cross_attention_frequency": 1000,
        "encoder_hidden_size": _MOST,
        "max_position_embeddings": _MOST,
    },
    "vision_config": {**_SIZES, "image_size": 4096, "patch_size": 4096},
}
_EPSILONS = ("rms_norm_eps", "layer_norm_eps")
_SHARES = (
    *("attention_dropout", "resid_pdrop", "embd_pdrop"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
)
_FLAGS = ("evidence_stage", "evidence_semantics", "tie_word_embeddings")
_LAYER = {
    "text_config": re.compile(r"(?:language_model|model)\.layers\.(\d+)\."),
    "qformer_config": re.compile(r"compressor\.qformer\.encoder\.layer\.(\d+)\."),
    "vision_config": re.compile(r"vision\.layers\.(\d+)\."),
}


def check_config(config: D2VLMConfig, path: Path) -> None:
    """Check types and ranges of a model's configuration.

    Args:
        config: of the model.
        path: of the file that it was read from, for messages.

    Raises:
        CheckpointError: a value is impossible; the message names it and the limit.
    """
    check = _Checker(path)
    for part, sizes in _PARTS.items():
        values = getattr(config, part)
        for name, most in sizes.items():
            check.integer(f"{part}.{name}", getattr(values, name), 1, most)
        check.known(f"{part}.hidden_act", values.hidden_act, ACT2FN)
        for name in _EPSILONS:
            if hasattr(values, name):
                check.number(f"{part}.{name}", getattr(values, name), 0.0, 1.0)
        for name in _SHARES:
            if hasattr(values, name):
                check.number(f"{part}.{name}", getattr(values, name), 0.0, 1.0)
    check.integer("qformer_config.chunk_size_feed_forward", _chunk_size(config), 0, 0)
    layers = config.text_config.num_hidden_layers
    check.integer("num_query_tokens", config.num_query_tokens, 1, 4096)
    check.integer("max_frames", config.max_frames, 1, _MOST)
    check.known("time_tokens", config.time_tokens, ("evidence", "matching"))
    if not config.matches:
        check.integer("evidence_layer", config.evidence_layer, 0, layers)
        check.number("evidence_threshold", config.evidence_threshold, 1e-6, 1.0)
        check.number("target_decay", config.target_decay, 1.0, math.inf)
    for name in _FLAGS:
        check.known(name, getattr(config, name), (True, False))


def check_layers(config: D2VLMConfig, names: Iterable[str], path: Path) -> None:
    """Check the numbers of layers against the names of the stored tensors.

    A configuration with many more layers than the file has would be built for minutes.

    Args:
        config: of the model.
        names: of the tensors, in either format.
        path: of the configuration's file, for messages.

    Raises:
        CheckpointError: a number of layers differs.
    """
    stored = dict.fromkeys(_LAYER, 0)
    for name in names:
        for part, pattern in _LAYER.items():
            if found := pattern.match(name):
                stored[part] = max(stored[part], int(found[1]) + 1)
    for part, count in stored.items():
        given = getattr(config, part).num_hidden_layers
        if count and given != count:
            raise CheckpointError(
                f"{printable(path)}: {part}.num_hidden_layers is {given}, and the weights have "
                f"{count} layers; fetch the model again"
            )


def _chunk_size(config: D2VLMConfig) -> Any:
    return getattr(config.qformer_config, "chunk_size_feed_forward", 0)


class _Checker:
    def __init__(self, path: Path) -> None:
        self._path = path

    def integer(self, name: str, value: Any, least: int, most: int) -> None:
        """Require an integer in [least, most]."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._refuse(name, value, f"an integer from {least} to {most}")

    def number(self, name: str, value: Any, least: float, most: float) -> None:
        """Require a finite number in [least, most]."""
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not math.isfinite(value) or not least <= value <= most:
            self._refuse(name, value, f"a number from {least:g} to {most:g}")

    def known(self, name: str, value: Any, known: Iterable[Any]) -> None:
        """Require one of some values."""
        if not isinstance(value, str | bool) or value not in known:
            shown = ", ".join(map(str, known))
            self._refuse(name, value, f"one of {shown[:200]}")

    def _refuse(self, name: str, value: Any, wanted: str) -> None:
        raise CheckpointError(
            f"{printable(self._path)}: {name} is {value!r:.80}; it must be {wanted}; "
            "fetch the model again"
        )
