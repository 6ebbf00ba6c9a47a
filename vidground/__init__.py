"""Find when something happens in a video: temporal grounding and dense captioning with D2VLM.

Public names are imported on first use, so that importing vidground does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from vidground.version import __version__ as __version__

if TYPE_CHECKING:
    from vidground.archive.stored_results import load
    from vidground.captioner import DenseCaptioner
    from vidground.errors import (
        CheckpointError,
        FormatError,
        InputError,
        InternalError,
        NumericError,
        VideoError,
        VidgroundError,
    )
    from vidground.features.encoded_video import EncodedVideo
    from vidground.grounder import Grounder
    from vidground.model.d2vlm import D2VLM
    from vidground.results.types import (
        Captions,
        Event,
        GroundingResult,
        Groundings,
        Moment,
        Relevance,
    )
    from vidground.settings import (
        BatchSettings,
        CacheSettings,
        DecodingSettings,
        GroundingSettings,
        IsolationSettings,
        SamplingSettings,
    )
    from vidground.video.info import VideoInfo

_HOMES = {
    "DenseCaptioner": "vidground.captioner",
    "CheckpointError": "vidground.errors",
    "FormatError": "vidground.errors",
    "InputError": "vidground.errors",
    "InternalError": "vidground.errors",
    "NumericError": "vidground.errors",
    "VideoError": "vidground.errors",
    "VidgroundError": "vidground.errors",
    "EncodedVideo": "vidground.features.encoded_video",
    "Grounder": "vidground.grounder",
    "D2VLM": "vidground.model.d2vlm",
    "load": "vidground.archive.stored_results",
    "BatchSettings": "vidground.settings",
    "CacheSettings": "vidground.settings",
    "DecodingSettings": "vidground.settings",
    "GroundingSettings": "vidground.settings",
    "IsolationSettings": "vidground.settings",
    "SamplingSettings": "vidground.settings",
    "Captions": "vidground.results.types",
    "Event": "vidground.results.types",
    "GroundingResult": "vidground.results.types",
    "Groundings": "vidground.results.types",
    "Moment": "vidground.results.types",
    "Relevance": "vidground.results.types",
    "VideoInfo": "vidground.video.info",
}

__all__ = [
    "D2VLM",
    "BatchSettings",
    "CacheSettings",
    "Captions",
    "CheckpointError",
    "DecodingSettings",
    "DenseCaptioner",
    "EncodedVideo",
    "Event",
    "FormatError",
    "Grounder",
    "GroundingResult",
    "GroundingSettings",
    "Groundings",
    "InputError",
    "InternalError",
    "IsolationSettings",
    "Moment",
    "NumericError",
    "Relevance",
    "SamplingSettings",
    "VideoError",
    "VideoInfo",
    "VidgroundError",
    "load",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidground' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
