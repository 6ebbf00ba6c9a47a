"""Settings of inference and their defaults.

Imports no torch, so that the command line can show the defaults quickly.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from vidground.errors import InputError

DEFAULT_MODEL = "d2vlm"
"""Name of the released weights; see `vidground.checkpoints.known_models`."""

OWN_MODEL_TYPE = "d2vlm"
"""`model_type` in config.json of a D2VLM in vidground's format."""

TimeTokens = Literal["evidence", "matching"]
"""How a model expresses times: `<evi>` stands for an interval that it gathers as evidence (D2VLM);
`<vid>` is matched to one frame (E.T. Chat)."""

Vision = Literal["torch"] | str
TORCH: Final = "torch"
ONNX: Final = "onnx:"
"""Frame encoders: the model itself, or an export, as prefix of its folder ("onnx:DIR")."""

Weights = Literal["full", "int8", "int4"]
FULL_WEIGHTS: Final = "full"
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
"""Storage of the language model's linear weights: in the model's dtype, or in 8 or 4 bits."""
WEIGHT_BITS: dict[Weights, int] = {"int8": 8, "int4": 4}

Provider = Literal["tensorrt", "cuda", "cpu"]
"""Execution providers of onnxruntime, by the names used here."""

DecodeOn = Literal["cpu", "auto", "cuda"] | str
CPU: Final = "cpu"
AUTO: Final = "auto"
CUDA: Final = "cuda"
"""Devices that decode videos: the CPU; an NVIDIA GPU where possible, else the CPU; a GPU only.
"auto:N" and "cuda:N" name the GPU; without a number it is the model's, else the first."""

LOOP_REPEATS = 8
"""Number of consecutive repetitions that make a block of tokens a loop."""


def _require(condition: bool, name: str, value: object, limit: str) -> None:
    if not condition:
        raise InputError(f"{name} is {value}; it must be {limit}")


def check_decode_on(value: DecodeOn) -> None:
    """Check the name of a device that decodes videos.

    Raises:
        InputError: it is none of "cpu", "auto", "auto:N", "cuda" and "cuda:N".
    """
    known = re.fullmatch(rf"{CPU}|({AUTO}|{CUDA})(:[0-9]+)?", value) is not None
    _require(known, "decode_on", repr(value), "'cpu', 'auto', 'cuda' or, for GPU N, 'cuda:N'")


def decode_on_card(value: str, card: int) -> str:
    """Return `decode_on` for a model on GPU number `card`: that GPU, unless another is named."""
    return f"{value}:{card}" if card and value in (AUTO, CUDA) else value


def may_use_cpu(decode_on: str) -> bool:
    """Return whether a video that the GPU cannot decode may be decoded on the CPU."""
    return decode_on.partition(":")[0] == AUTO


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How frames are sampled from a video.

    Attributes:
        fps: sampled frames per second of video, in (0, 60]; the released weights were trained at 1.
        window_s: length of the windows that a longer video is split into, in seconds, above 0;
            None for the longest that the model was trained on (350 frames for the released
            weights).
        overlap: share of a window that overlaps the next one, in [0, 0.5].
        stream: video track to use, by its number among all streams of the file, from 0; None for
            the one that a player shows.
        raw_fps: frames per second of raw H.264 and HEVC streams, which store no times, in
            (0, 1000]; has no effect on other files. None for the rate that the codec states, or 25.

    Raises:
        InputError: a value is out of range.
    """

    fps: float = 1.0
    window_s: float | None = None
    overlap: float = 0.1
    stream: int | None = None
    raw_fps: float | None = None

    def __post_init__(self) -> None:
        _require(0 < self.fps <= 60, "fps", self.fps, "above 0 and at most 60 frames per second")
        if self.window_s is not None:
            _require(self.window_s > 0, "window", self.window_s, "above 0 seconds")
        _require(0 <= self.overlap <= 0.5, "overlap", self.overlap, "from 0 to 0.5 of a window")
        _require(self.stream is None or self.stream >= 0, "stream", self.stream, "0 or above")
        if self.raw_fps is not None:
            _require(0 < self.raw_fps <= 1000, "raw_fps", self.raw_fps, "above 0, at most 1000")

    @property
    def choice(self) -> dict[str, int | float]:
        """`stream` and `raw_fps`, if set: what is read of a file before frames are sampled."""
        values = {"stream": self.stream, "raw_fps": self.raw_fps}
        return {name: value for name, value in values.items() if value is not None}

    def recorded(self) -> dict[str, int | float | None]:
        """Return the settings as records keep them, which older versions without `choice` read."""
        own = {"fps": self.fps, "window_s": self.window_s, "overlap": self.overlap}
        return {**own, **self.choice}


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """How the tokens of an answer are chosen.

    Attributes:
        max_new_tokens: maximum length of an answer, 1 or more; a result whose answer was cut off
            has a warning.
        temperature: 0 for greedy decoding, which chooses the likeliest token; above 0, tokens are
            sampled from softmax(logits / temperature) (the released code used 0.2).
        seed: of sampling; has no effect on greedy decoding. Its random numbers depend neither on
            the other prompts of a batch nor on the device.
        repetition_penalty: divides positive and multiplies negative logits of all tokens that occur
            in the prompt or the answer, except `<evi>`; above 0. The released code used 1.2 for
            multiple-choice tasks and 1.0, which is none, otherwise.
        loop_tokens: an answer ends when its last `loop_tokens` tokens repeat one block of at most
            an eighth of that length; the result then has a warning. 16 or more, or 0 for off.

    Raises:
        InputError: a value is out of range.
    """

    max_new_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    loop_tokens: int = 512

    def __post_init__(self) -> None:
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        _require(self.temperature >= 0, "temperature", self.temperature, "0 or above")
        _require(self.repetition_penalty > 0, "repetition_penalty", self.repetition_penalty, "> 0")
        valid = self.loop_tokens == 0 or self.loop_tokens >= 2 * LOOP_REPEATS
        limit = f"0 for off, or at least {2 * LOOP_REPEATS}"
        _require(valid, "loop_tokens", self.loop_tokens, limit)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How much is computed at once; affects speed, memory and, by rounding, scores.

    Other batch sizes group sums differently. In float32 that changes scores in the sixth digit. In
    bfloat16 and float16 it can decide between two tokens of nearly equal probability: for identical
    answers, keep the sizes equal (`videos=1`, with `prompts` and `frames` set).

    Sizes that are None are chosen from the free memory, the device and the number of cores, and
    halved if memory runs out.

    Attributes:
        prompts: prompts answered at once; a prompt is one question on one window.
        frames: frames encoded at once.
        videos: videos in progress at once. A run that is killed loses its work on these. With 1,
            scores are reproducible to the last digit.
        readers: videos that are decoded at once.
        graphs: whether to record the steps of generation and replay them (CUDA graphs); None for
            on a GPU only.

    Raises:
        InputError: a size is below 1.
    """

    prompts: int | None = None
    frames: int | None = None
    videos: int | None = None
    readers: int | None = None
    graphs: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("batch size", self.prompts),
            ("frame batch", self.frames),
            ("videos at once", self.videos),
            ("readers", self.readers),
        ):
            _require(value is None or value >= 1, name, value, "at least 1, or None for automatic")


@dataclass(frozen=True, slots=True)
class GroundingSettings:
    """How a relevance curve becomes moments.

    Attributes:
        found_threshold: lowest score of a moment, in [0, 1]; the score is the mean relevance of its
            frames.
        max_moments: maximum number of moments of a query, 1 or more; the best are returned.

    Raises:
        InputError: a value is out of range.
    """

    found_threshold: float = 0.5
    max_moments: int = 10

    def __post_init__(self) -> None:
        _require(0 <= self.found_threshold <= 1, "threshold", self.found_threshold, "in [0, 1]")
        _require(self.max_moments >= 1, "max_moments", self.max_moments, "at least 1")


@dataclass(frozen=True, slots=True)
class IsolationSettings:
    """Limits on decoding a video in a separate process.

    Attributes:
        timeout_s: maximum time without progress (a packet read or decoded, a frame delivered), in
            seconds, in (0, 1e6]. It does not limit the total time of a video, and time in which
            the decoder waits for the model does not count.
        memory_gib: memory for decoding a video in GiB (2^30 bytes), in [0.1, 1e6], in addition to
            about 0.2 GiB of address space for the process itself. If videos may be decoded on a
            GPU, reserved address space and GPU memory do not count.

    Raises:
        InputError: a value is out of range.
    """

    timeout_s: float = 120.0
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        _require(0 < self.timeout_s <= 1e6, "timeout", self.timeout_s, "above 0, at most 1e6 s")
        _require(0.1 <= self.memory_gib <= 1e6, "memory limit", self.memory_gib, "0.1 to 1e6 GiB")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """On-disk cache of encoded videos, so that the next question need not encode them again.

    With a cache, features are always rounded to `bits`, so that an answer does not depend on
    whether they were cached.

    Attributes:
        folder: of the cache; None for the environment variable VIDGROUND_CACHE, or if that is not
            set, vidground/features in the user's cache folder ($XDG_CACHE_HOME or ~/.cache).
        max_gib: maximum size of the folder in GiB (2^30 bytes), in [0, 1e6]; the default holds
            4 hours of video for the released model. 0 rounds features but caches nothing.
        bits: per value of a feature, 16 or 8; 8 bits take half the space and change some intervals.

    Raises:
        InputError: a value is out of range.
    """

    folder: str | None = None
    max_gib: float = 10.0
    bits: int = 16

    def __post_init__(self) -> None:
        _require(0 <= self.max_gib <= 1e6, "cache size", self.max_gib, "0 to 1e6 GiB")
        _require(self.bits in (8, 16), "cache bits", self.bits, "8 or 16")

    @property
    def place(self) -> Path:
        """Path of the folder."""
        user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        default = os.environ.get("VIDGROUND_CACHE") or f"{user_cache}/vidground/features"
        return Path(self.folder or default).expanduser()
