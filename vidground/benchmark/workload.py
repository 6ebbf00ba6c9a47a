"""Lower bounds on the operations and memory reads of each stage, from a model's sizes.

Operations are those of matrix products and attention, where a multiply-add counts as two; reads are
those of weights, keys and values. Norms, activations and softmax are left out: few operations, but
they take time, so that no stage reaches the device's highest rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vidground.model.configuration import D2VLMConfig


@dataclass(frozen=True)
class Work:
    """Work of a stage.

    Attributes:
        flops: floating-point operations.
        numbers: values that must be read from memory.
    """

    flops: float
    numbers: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.numbers + other.numbers)

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.numbers * times)


NOTHING = Work(0, 0)


def vision_work(config: D2VLMConfig, frames: int) -> Work:
    """Return the work of `D2VLM.encode_frames` on a batch of frames."""
    vision = config.vision_config
    width, inner, layers = vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers
    patches = _patches(config)
    tokens = patches + 1  # with the class token
    embedding = 3 * vision.patch_size**2 * width
    layer = 4 * width**2 + 2 * width * inner
    attention = 4 * tokens**2 * width
    per_frame = 2 * patches * embedding + layers * (2 * tokens * layer + attention)
    return Work(frames * per_frame, embedding + layers * layer)


def compression_work(config: D2VLMConfig, frames: int, question_tokens: int) -> Work:
    """Return the work of `D2VLM.compress` on a batch of frames with one question."""
    qformer = config.qformer_config
    width, inner, layers = qformer.hidden_size, qformer.intermediate_size, qformer.num_hidden_layers
    patch_width, language_width = config.vision_config.hidden_size, config.text_config.hidden_size
    patches, queries = _patches(config), config.num_query_tokens
    tokens = queries + question_tokens
    crossing = len(range(0, layers, qformer.cross_attention_frequency))
    self_attention = 2 * tokens * 4 * width**2 + 4 * tokens**2 * width
    cross_attention = (
        2 * queries * 2 * width**2
        + 2 * patches * 2 * patch_width * width
        + 4 * queries * patches * width
    )
    feed_forward = 2 * tokens * 2 * width * inner
    pooling = (
        2 * queries * (width * patch_width + patch_width**2)
        + 2 * patches * patch_width**2
        + 4 * queries * patches * patch_width
        + 2 * patch_width * language_width
    )
    per_frame = layers * (self_attention + feed_forward) + crossing * cross_attention + pooling
    # Queries and text have feed-forwards of their own.
    weights = layers * (4 * width**2 + 4 * width * inner) + crossing * (
        2 * width**2 + 2 * patch_width * width
    )
    weights += width * patch_width + 2 * patch_width**2 + patch_width * language_width
    return Work(frames * per_frame, weights)


def prefill_work(
    config: D2VLMConfig, lengths: Sequence[int], frames: Sequence[int], *, start: int = 0
) -> Work:
    """Return the work of a batch of prompts up to the first token and its evidence.

    Work on padding is not counted.

    Args:
        config: sizes of the model.
        lengths: (B,) positions of each prompt.
        frames: (B,) frames in each prompt.
        start: length of the common prefix that was computed before.
    """
    head = _head(config)
    flops = 0
    for length, shown in zip(lengths, frames, strict=True):
        new = length - start
        flops += 2 * new * _language_layers(config) + _language_attention(config, new, length)
        flops += 2 * config.text_config.vocab_size * config.text_config.hidden_size
        flops += 2 * (shown + 1) * head
    return Work(flops, _language_numbers(config) + 2 * head)


def token_work(config: D2VLMConfig, lengths: Sequence[int]) -> Work:
    """Return the work of one more token for each sequence of a batch.

    Args:
        config: sizes of the model.
        lengths: (B,) positions of each sequence, with the new token.
    """
    text = config.text_config
    per_row = 2 * (_language_layers(config) + text.vocab_size * text.hidden_size)
    flops = sum(per_row + _language_attention(config, 1, length) for length in lengths)
    cached = 2 * text.num_hidden_layers * _key_width(config)
    return Work(flops, _language_numbers(config) + sum(lengths) * cached)


def _patches(config: D2VLMConfig) -> int:
    vision = config.vision_config
    return int(vision.image_size // vision.patch_size) ** 2


def _language_numbers(config: D2VLMConfig) -> int:
    text = config.text_config
    return _language_layers(config) + int(text.vocab_size * text.hidden_size)


def _language_layers(config: D2VLMConfig) -> int:
    """Return the number of weights of all decoder layers."""
    text = config.text_config
    width = text.hidden_size
    attention = 2 * width**2 + 2 * width * _key_width(config)
    return int(text.num_hidden_layers * (attention + 3 * width * text.intermediate_size))


def _language_attention(config: D2VLMConfig, queries: int, keys: int) -> int:
    text = config.text_config
    return int(text.num_hidden_layers * 4 * queries * keys * text.hidden_size)


def _key_width(config: D2VLMConfig) -> int:
    text = config.text_config
    return int(text.hidden_size // text.num_attention_heads * text.num_key_value_heads)


def _head(config: D2VLMConfig) -> int:
    """Return the number of weights of the frame head, or of the evidence head."""
    width = int(config.text_config.hidden_size)
    return 2 * width * (width // 2)
