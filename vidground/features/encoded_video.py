"""A video encoded once and held in memory, to ask about it several times."""

from __future__ import annotations

from dataclasses import dataclass

from vidground.errors import InputError
from vidground.features.frame_encoding import PatchChunk
from vidground.settings import TORCH
from vidground.video.info import VideoInfo


@dataclass(frozen=True)
class EncodedVideo:
    """The return value of `Grounder.encode`: pass it to `query`, `ask` or `caption`.

    Attributes:
        info: measurements of the file.
        times_s: times of the T samples, in seconds.
        fps: sampled frames per second.
        model: name of the model that encoded it; other models cannot read its features.
        chunks: patch features on the CPU: 0.72 MB per frame in 16 bits for the released model.
        warnings: what a user should know about the file.
        vision: what encoded the frames; see `InferenceSettings`.
        bits: that features were rounded to (see `CacheSettings`); None if they were not rounded.
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
        """Check that it was encoded with the settings of the engine that is asked.

        Raises:
            InputError: a setting differs.
        """
        if self.fps != fps:
            raise InputError(
                f"the video was encoded at {self.fps} fps, and the engine samples {fps} fps; "
                "encode it with the same settings"
            )
        if self.model != model:
            raise InputError(
                f"the video was encoded by {self.model}, and the engine runs {model}; encode it "
                "with the same model"
            )
        if self.vision != vision:
            raise InputError(
                f"the video was encoded with vision {self.vision!r}, and the engine uses "
                f"{vision!r}; encode it with the same vision"
            )
        if self.bits != bits:
            raise InputError(
                f"the video was encoded with {_features(self.bits)}, and the engine uses "
                f"{_features(bits)}; encode it with the same cache settings"
            )

    def __repr__(self) -> str:
        return f"EncodedVideo({self.info.path!r}, {len(self.times_s)} samples at {self.fps} fps)"


def _features(bits: int | None) -> str:
    return "unrounded features" if bits is None else f"features of {bits} bits"
