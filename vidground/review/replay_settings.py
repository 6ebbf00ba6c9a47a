"""The settings that a stored result was made with, as this version takes them.

A result may have been changed by anybody: what would be passed on to libraries is checked here.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vidground.errors import InputError
from vidground.results.types import Provenance
from vidground.settings import (
    FULL_WEIGHTS,
    WEIGHT_BITS,
    CacheSettings,
    DecodingSettings,
    SamplingSettings,
)

_DEVICES = ("cpu", "cuda", "mps", "xpu")
_DTYPES = ("float32", "bfloat16", "float16")
_FEATURES: Mapping[str, int] = {"16 bit": 16, "8 bit": 8}
_MOST_TOKENS = 1 << 20


def device_of(before: Provenance) -> str | None:
    """Return the kind of device the result was made on; None for the default if there is none.

    Raises:
        InputError: it is not a kind of device that models compute on.
    """
    kind = before.runtime.get("device")
    if kind is not None:
        _require_one("device", kind, _DEVICES)
    # Here, so that a result can be checked before torch is loaded.
    import torch

    return None if kind == "cuda" and not torch.cuda.is_available() else kind


def dtype_of(before: Provenance) -> str:
    """Return the dtype of the weights.

    Raises:
        InputError: models do not compute in it.
    """
    _require_one("dtype", before.dtype, _DTYPES)
    return before.dtype


def sampling_of(before: Provenance) -> SamplingSettings:
    """Return how frames were sampled.

    Raises:
        InputError: a value is out of range.
    """
    window_s = before.settings.get("window_s")
    overlap = before.settings.get("overlap", SamplingSettings().overlap)
    stream, raw_fps = before.settings.get("stream"), before.settings.get("raw_fps")
    return SamplingSettings(
        before.fps,
        None if window_s is None else float(window_s),
        overlap,
        None if stream is None else int(stream),
        raw_fps,
    )


def rounding_of(before: Provenance) -> CacheSettings | None:
    """Return settings that round features as the result's were, and cache nothing.

    Raises:
        InputError: features are not rounded to that many bits.
    """
    features = before.runtime.get("features")
    if features is None:
        return None
    _require_one("features", features, _FEATURES)
    return CacheSettings(max_gib=0, bits=_FEATURES[features])


def weights_of(before: Provenance) -> str:
    """Return the storage of weights that the result was made with.

    Raises:
        InputError: weights are not stored in that many bits.
    """
    bits = before.settings.get("weight_bits")
    if bits is None:
        return FULL_WEIGHTS
    _require_one("weight_bits", bits, tuple(WEIGHT_BITS.values()))
    return next(name for name, known in WEIGHT_BITS.items() if known == bits)


def decoding_of(before: Provenance) -> DecodingSettings:
    """Return how tokens were chosen.

    Raises:
        InputError: a setting is unknown, of another type, or out of range.
    """
    known = {field.name: type(field.default) for field in fields(DecodingSettings)}
    unknown = sorted(before.decoding.keys() - known)
    if unknown:
        raise InputError(
            f"the result was generated with {', '.join(unknown)[:80]}, which this version of "
            f"vidground does not know; use vidground {before.vidground_version[:40]}"
        )
    for name, value in before.decoding.items():
        if known[name] is int and not isinstance(value, int):
            raise InputError(f"{_RECORDED} {name} {value}; it must be a whole number")
    # Older versions did not stop answers that repeat themselves.
    values: Mapping[str, Any] = {"loop_tokens": 0, **before.decoding}
    settings = DecodingSettings(**values)
    if settings.max_new_tokens > _MOST_TOKENS:
        raise InputError(
            f"{_RECORDED} max_new_tokens {settings.max_new_tokens}; answers have at most "
            f"{_MOST_TOKENS:,} tokens"
        )
    return settings


_RECORDED = "the result records"


def _require_one(name: str, value: Any, known: Any) -> None:
    if value not in known:
        choices = ", ".join(map(str, known))
        raise InputError(
            f"{_RECORDED} {name} {value!r:.40}, which no run uses; it must be one of {choices}. "
            "Use an unchanged result"
        )
