"""Settings that are no weights: sampling, decoding, deciding. Each default stands here only.

Knows neither torch nor files, so that the command line can show these numbers at once.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vidground.errors import InputError

DEFAULT_MODEL = "d2vlm"
"""Name of the released weights; `vidground.checkpoints.known_models` says where they are."""

OWN_MODEL_TYPE = "d2vlm"
"""What config.json calls a D2VLM in vidground's format."""

TORCH, ONNX = "torch", "onnx:"
"""What encodes frames: the model itself, or an export, whose folder follows."""

FULL_WEIGHTS, INT8_WEIGHTS = WEIGHTS = ("full", "int8")
"""How the language model's linear layers hold their weights: in the model's type, or in 8 bits."""

CPU, AUTO, CUDA = "cpu", "auto", "cuda"
"""Where videos are decoded: on the CPU; on an NVIDIA card as far as it can; on a card and nowhere
else. "auto:N" and "cuda:N" name the card; without a number it is the model's, else the first."""

LOOP_REPEATS = 8
"""So often must a block of tokens stand in a row to be a loop."""


def _require(condition: bool, name: str, value: object, limit: str) -> None:
    if not condition:
        raise InputError(f"{name} is {value}; it must be {limit}")


def check_decode_on(value: str) -> None:
    """Refuse a value that names no place to decode videos on.

    Raises:
        InputError: it is none of "cpu", "auto", "auto:N", "cuda" and "cuda:N".
    """
    known = re.fullmatch(rf"{CPU}|({AUTO}|{CUDA})(:[0-9]+)?", value) is not None
    _require(known, "decode_on", repr(value), "'cpu', 'auto', 'cuda' or, for card N, 'cuda:N'")


def decode_on_card(value: str, card: int) -> str:
    """Where videos are decoded if the model is on a card: there, unless another one is named."""
    return f"{value}:{card}" if card and value in (AUTO, CUDA) else value


def may_use_cpu(decode_on: str) -> bool:
    """Whether a video may be decoded on the CPU that was to be decoded on a card."""
    return decode_on.partition(":")[0] == AUTO


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How frames are taken from a video.

    fps: sampled frames per second of video; the released weights were trained at 1.
    window_s: longest stretch given to the model at once, in seconds; None for the most the
        model was trained on (350 frames for the released weights).
    overlap: share of a window that it has in common with the next one, in [0, 0.5].
    """

    fps: float = 1.0
    window_s: float | None = None
    overlap: float = 0.1

    def __post_init__(self) -> None:
        _require(0 < self.fps <= 60, "fps", self.fps, "above 0 and at most 60 frames per second")
        if self.window_s is not None:
            _require(self.window_s > 0, "window", self.window_s, "above 0 seconds")
        _require(0 <= self.overlap <= 0.5, "overlap", self.overlap, "from 0 to 0.5 of a window")


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """How tokens are chosen.

    max_new_tokens: cap on an answer; a result whose answer met it says so.
    temperature: 0 is greedy: the likeliest token; above 0 tokens are drawn from
        softmax(logits / temperature) (the released code used 0.2).
    seed: seed of the draws; without effect when greedy. Neither the other prompts of a batch nor
        the device change which random numbers a seed stands for.
    repetition_penalty: divides positive and multiplies negative logits of all tokens that the
        prompt or the answer already holds, but `<evi>`; the released code used 1.2 for
        multiple-choice tasks and none (1.0) elsewhere.
    loop_tokens: an answer ends when its last so many tokens are one block, of at most an eighth
        of them, over and over; a result whose answer met it says so. 0 turns that off.
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
        sane = self.loop_tokens == 0 or self.loop_tokens >= 2 * LOOP_REPEATS
        limit = f"0 for off, or at least {2 * LOOP_REPEATS}"
        _require(sane, "loop_tokens", self.loop_tokens, limit)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How much is done at once: speed and memory, and nothing else but rounding.

    Batches of another size group sums differently. In float32 that changes scores in the sixth
    digit; in bfloat16 and float16 two tokens can be so nearly as likely that it decides between
    them, so for equal answers keep the sizes equal as well (`videos=1`, and `prompts` and `frames`
    set).

    What is None is chosen from the free memory, the device and the cores (`batch_sizes`), and
    what turns out to be too much is halved.

    prompts: prompts decoded at once (a prompt is one question on one window).
    frames: frames given to the vision encoder at once.
    videos: videos in flight at once, where many are worked on. A run that is killed loses what
        it has done on these. With 1, scores are the same to the last digit each time.
    readers: of those, how many read and decode their files at once.
    graphs: record decoding steps and replay them (CUDA graphs); None for on a GPU.
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
            _require(value is None or value >= 1, name, value, "at least 1, or None for a choice")


@dataclass(frozen=True, slots=True)
class GroundingSettings:
    """How a relevance curve becomes moments.

    found_threshold: a moment whose score (mean relevance of its frames, in [0, 1]) is below
        this does not count as found.
    max_moments: at most so many moments are returned for a query, best first.
    """

    found_threshold: float = 0.5
    max_moments: int = 10

    def __post_init__(self) -> None:
        _require(0 <= self.found_threshold <= 1, "threshold", self.found_threshold, "in [0, 1]")
        _require(self.max_moments >= 1, "max_moments", self.max_moments, "at least 1")


@dataclass(frozen=True, slots=True)
class IsolationSettings:
    """Limits on decoding a video in a process of its own.

    timeout_s: longest time without progress (a packet read or decoded, a frame handed over), in
        seconds. Time in which the model keeps the decoder waiting does not count, and the whole
        of a long video may take longer.
    memory_gib: memory that decoding a video may take, in GiB (2^30 bytes), besides some 0.2 GiB
        of address space that the process needs by itself. Where videos may be decoded on a card,
        what is merely reserved does not count, nor what lies on the card.
    """

    timeout_s: float = 120.0
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        _require(0 < self.timeout_s <= 1e6, "timeout", self.timeout_s, "above 0, at most 1e6 s")
        _require(0.1 <= self.memory_gib <= 1e6, "memory limit", self.memory_gib, "0.1 to 1e6 GiB")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is kept of videos, so that the next question about one need not encode it again.

    With a cache features are rounded to `bits` wherever they come from, so that an answer is the
    same whether it came from the cache or not.

    folder: None for what the environment variable VIDGROUND_CACHE names, and without it for
        vidground/features in the user's cache ($XDG_CACHE_HOME or ~/.cache).
    max_gib: what all in the folder may take, in GiB (2^30 bytes): 4 hours of video as features of
        the released model by default. 0 keeps nothing and rounds all the same.
    bits: of a feature, 16 or 8. 8 take half the room and move some intervals.
    """

    folder: str | None = None
    max_gib: float = 10.0
    bits: int = 16

    def __post_init__(self) -> None:
        _require(0 <= self.max_gib <= 1e6, "cache size", self.max_gib, "0 to 1e6 GiB")
        _require(self.bits in (8, 16), "cache bits", self.bits, "8 or 16")

    @property
    def place(self) -> Path:
        """The folder that is meant."""
        usual = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        place = self.folder or os.environ.get("VIDGROUND_CACHE") or f"{usual}/vidground/features"
        return Path(place).expanduser()
