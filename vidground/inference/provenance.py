"""Provenance of an answer: the settings and versions that results record."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version

from vidground.checkpoints.known_models import known_model
from vidground.inference.answers import Answers
from vidground.model.d2vlm import D2VLM
from vidground.model.quantization import linear_bits
from vidground.results.types import Provenance
from vidground.settings import DecodingSettings, SamplingSettings
from vidground.version import __version__


def weight_bits(model: D2VLM) -> dict[str, int]:
    """Return `weight_bits` of the language model; empty for weights in the model's dtype."""
    bits = linear_bits(model.language_model)
    return {} if bits is None else {"weight_bits": bits}


def model_warnings(model: D2VLM) -> tuple[str, ...]:
    """Return what readers of any answer of a model must know."""
    known = known_model(str(model.name_or_path))
    return (known.limits,) if known is not None and known.limits else ()


def runtime_of(model: D2VLM, *, vision: str, bits: int | None) -> dict[str, str]:
    """Return what the last digits of an answer depend on, apart from the weights.

    For a model that matches frames also that it does, which says what scores mean.

    Args:
        model: that answers.
        vision: name of what encodes frames.
        bits: that features are rounded to; None if they are not rounded.
    """
    libraries = {name: version(name) for name in ("torch", "transformers", "av")}
    attention = str(model.config._attn_implementation)
    features = {} if bits is None else {"features": f"{bits} bit"}
    used = {"device": model.device.type, "attention": attention, "vision": vision}
    if model.config.matches:
        used["time_tokens"] = model.config.time_tokens
    return {**used, **features, **libraries}


def provenance_of(
    answers: Answers,
    model: D2VLM,
    *,
    prompt: str,
    sampling: SamplingSettings,
    decoding: DecodingSettings,
    runtime: dict[str, str],
) -> Provenance:
    """Return everything that determined an answer.

    Args:
        answers: of a video.
        model: that answered.
        prompt: the question, as text.
        sampling: how frames were sampled.
        decoding: how tokens were chosen.
        runtime: see `runtime_of`.
    """
    times, period_s = answers.times_s, 1 / sampling.fps
    spans = tuple(
        (times[w.start], min(times[w.stop - 1] + period_s, answers.info.duration_s))
        for w in answers.windows
    )
    own: dict[str, float | int] = dict(sampling.choice)
    if sampling.window_s is not None:
        own["window_s"] = sampling.window_s
    digest = model.files_digest  # None if the revision identifies the weights
    known = {} if digest is None else {"weights": digest}
    return Provenance(
        model=str(model.name_or_path),
        revision=getattr(model.config, "_commit_hash", None),
        vidground_version=__version__,
        dtype=str(model.dtype).removeprefix("torch."),
        prompt=prompt,
        fps=sampling.fps,
        windows_s=spans,
        decoding=asdict(decoding),
        time_resolution_s=period_s,
        settings={**own, "overlap": sampling.overlap, **weight_bits(model)},
        runtime={**runtime, **known},
    )
