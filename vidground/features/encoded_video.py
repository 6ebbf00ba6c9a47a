"""A video that is encoded once and kept in memory, to be asked more than once."""

from __future__ import annotations

from dataclasses import dataclass

from vidground.errors import InputError
from vidground.features.frame_encoding import PatchChunk
from vidground.settings import TORCH
from vidground.video.info import VideoInfo


@dataclass(frozen=True)
class EncodedVideo:
    """A video whose vision part is done: ask it as often as you like.

    chunks: patch features of its frames, on the CPU: 0.72 MB a frame in 16 bit for the released
    model. times_s: the T sampled instants. fps: the rate it was sampled at. model: whose vision
    encoder it was; another model cannot read these features. vision: what that encoder ran on.
    bits: what features were rounded to (see `CacheSettings`); None for not at all.
    """

    info: VideoInfo
    times_s: tuple[float, ...]
    fps: float
    model: str
    chunks: tuple[PatchChunk, ...]
    warnings: tuple[str, ...] = ()
    vision: str = TORCH
    bits: int | None = None

    def require_made_with(self, *, fps: float, model: str, vision: str, bits: int | None) -> None:
        """Raise InputError if whoever asks would have encoded it in another way."""
        if self.fps != fps:
            raise InputError(
                f"the video was encoded at {self.fps} fps and is asked at {fps}; "
                "encode it with the same settings"
            )
        if self.model != model:
            raise InputError(
                f"the video was encoded by {self.model} and is asked of {model}; "
                "encode it with the model that is asked"
            )
        if self.vision != vision:
            raise InputError(
                f"the video was encoded with vision {self.vision!r} and is asked with "
                f"{vision!r}; encode it with the same"
            )
        if self.bits != bits:
            raise InputError(
                f"the video was encoded with {_features(self.bits)} and is asked with "
                f"{_features(bits)}; encode it with the same cache settings"
            )

    def __repr__(self) -> str:
        return f"EncodedVideo({self.info.path!r}, {len(self.times_s)} samples at {self.fps} fps)"


def _features(bits: int | None) -> str:
    return "features as they are" if bits is None else f"features of {bits} bits"
