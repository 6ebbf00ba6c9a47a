"""How the released code runs the model, on weights that are ours: what ours is timed against.

One video at a time. Every frame of the file is decoded, one after the other on one thread; the
sampled ones are kept at full size, all of them, and resized as floats. All frames are encoded at
once, and attention is computed step by step. The states before and after every layer are kept for
every position and every token, and logits are computed for every position of the prompt, in
float32. The cache grows by copying all of it for every token; the host waits for each token, and
looks for evidence frame by frame.

What the released code does beyond that is left out (checks of itself, copies between libraries,
pictures of frames that are not wanted). Frames are chosen, and prompts written, as ours are. Turned
videos and pixels that are no squares it shows as they are stored, as the released code does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor

from vidground.benchmark.measuring import (
    COMPRESS,
    DECODE,
    PREFILL,
    PREPROCESS,
    TOKENS,
    VISION,
    StageMeter,
)
from vidground.generation.generation_queue import Evidence, Generation
from vidground.generation.prompt_batch import PromptBatch, PromptInputs, batch_prompts
from vidground.language.prompts import PromptIds
from vidground.model.d2vlm import D2VLM
from vidground.model.kv_cache import KeyValueCache
from vidground.video.frame_sampler import Footage
from vidground.video.preprocessing import CLIP_MEAN, CLIP_STD


@torch.inference_mode()
def answer_as_released(
    model: D2VLM,
    path: str | PathLike[str],
    prompt: PromptIds,
    *,
    fps: float,
    tokens: int,
    meter: StageMeter,
) -> Generation:
    """The greedy answer to a prompt on a whole video, which is one window.

    Args:
        fps: samples per second of video. tokens: of the answer at most, above 0. meter: is given
            the stages of the work.

    Raises:
        VideoError: the file cannot be read. InputError: a prompt does not fit.
    """
    with eager_attention(model):
        with meter.stage(DECODE):
            frames = decode_in_full(path, fps=fps)
        with meter.stage(PREPROCESS):
            pixels = prepare_floats(frames, model.config.image_size)
            pixels = pixels.to(device=model.device, dtype=model.dtype)
        with meter.stage(VISION):
            patches = model.encode_frames(pixels)
        with meter.stage(COMPRESS):
            frame_tokens = model.compress(
                patches, torch.tensor([prompt.question], device=model.device)
            )
        inputs = PromptInputs(prompt.before, prompt.after, frame_tokens)
        return generate_as_released(model, inputs, tokens=tokens, meter=meter)


def decode_in_full(path: str | PathLike[str], *, fps: float) -> npt.NDArray[np.uint8]:
    """All sampled frames as they are stored, (T, height, width, 3)."""
    frames: list[npt.NDArray[np.uint8]] = []
    for shown in Footage(path, fps=fps).frames(skip=False):
        frames += [shown.frame.rgb()] * (shown.last - shown.first + 1)
    return np.stack(frames)


def prepare_floats(frames: npt.NDArray[np.uint8], image_size: int) -> Tensor:
    """Frames (T, height, width, 3) resized, cropped and normalised as floats: (T, 3, S, S)."""
    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    height, width = scaled.shape[2:]
    shorter = min(height, width)
    new_size = (int(image_size * height / shorter), int(image_size * width / shorter))
    resized = F.interpolate(scaled, new_size, mode="bilinear", antialias=True)
    top, left = (new_size[0] - image_size) // 2, (new_size[1] - image_size) // 2
    square = resized[:, :, top : top + image_size, left : left + image_size]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (square - mean) / std


@torch.inference_mode()
def generate_as_released(
    model: D2VLM, prompt: PromptInputs, *, tokens: int, meter: StageMeter
) -> Generation:
    """The greedy answer to one prompt, of so many tokens at most."""
    with eager_attention(model):
        with meter.stage(PREFILL):
            decoding = _Decoding(model, batch_prompts(model, [prompt]))
            decoding.say()
        with meter.stage(TOKENS):
            while len(decoding.said) < tokens and not decoding.ended:
                decoding.step()
                decoding.say()
    return Generation(
        decoding.said,
        tuple(decoding.evidence),
        decoding.prompt_curve,
        truncated=not decoding.ended,
    )


class GrowingCache(KeyValueCache):
    """Keys and values that are copied whenever one is added, as transformers' DynamicCache is."""

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append new keys and values of a layer."""
        old_keys, old_values = self._keys[layer], self._values[layer]
        if old_keys is not None and old_values is not None:
            keys = torch.cat((old_keys, keys), dim=2)
            values = torch.cat((old_values, values), dim=2)
        self._keys[layer], self._values[layer] = keys, values
        self._lengths[layer] = keys.shape[2]
        return keys, values


class _Decoding:
    """An answer in the making; `kept` are the states and logits of all steps, never let go."""

    def __init__(self, model: D2VLM, batch: PromptBatch) -> None:
        self.said: list[int] = []
        self.evidence: list[Evidence] = []
        self.ended = False
        self.kept: list[tuple[list[Tensor], Tensor]] = []
        self._model = model
        self._cache = GrowingCache(model.config.text_config.num_hidden_layers)
        self._length = batch.embeds.shape[1]
        self._run(batch.embeds, batch.position_ids, batch.visible())
        states = self.kept[0][0]
        self._memory = batch.at_frames(states[model.config.evidence_layer])[0]
        self._frame_keys = model.frame_head(batch.at_frames(states[model.config.matching_layer]))[0]
        self.prompt_curve = self._relevance()

    def say(self) -> None:
        """Take the likeliest token, and look for its evidence if it is an `<evi>`."""
        config = self._model.config
        token = int(self.kept[-1][1][0, -1].argmax())
        self.ended = token == config.turn_end_token_id
        embeds = self._model.get_input_embeddings()(
            torch.tensor([[token]], device=self._model.device)
        )
        if token == config.evidence_token_id:
            curve = self._relevance()
            first, last = best_run(curve.tolist(), threshold=config.evidence_threshold)
            self.evidence.append(Evidence(len(self.said), first, last, curve))
            if config.evidence_semantics:
                embeds = embeds + self._memory[first : last + 1].mean(0)
        self.said.append(token)
        self._next = embeds

    def step(self) -> None:
        """Feed the token that was said last."""
        device = self._model.device
        position = torch.tensor([[self._length]], device=device)
        self._length += 1
        visible = torch.ones(1, 1, self._length, dtype=torch.bool, device=device)
        self._run(self._next, position, visible)

    def _run(self, embeds: Tensor, positions: Tensor, visible: Tensor) -> None:
        """Keep the states before and after every layer, and the logits at every position."""
        context = self._model.context(positions, visible, self._cache)
        states = [embeds]
        for layer in range(self._model.config.text_config.num_hidden_layers):
            states.append(self._model.run_layers(states[-1], layer, layer + 1, context))
        self.kept.append((states, self._model.logits(states[-1]).float()))

    def _relevance(self) -> Tensor:
        state = self.kept[-1][0][self._model.config.matching_layer][0, -1]
        scores = self._frame_keys @ self._model.evidence_head(state)
        return torch.sigmoid(scores.float() / state.shape[-1] ** 0.5).cpu()


def best_run(curve: list[float], *, threshold: float) -> tuple[int, int]:
    """The interval of a curve, as `evidence.best_interval` finds it, frame by frame."""
    least = threshold * max(curve)
    runs: list[list[int]] = []
    for frame, value in enumerate(curve):
        if value < least:
            continue
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    means = [sum(curve[frame] for frame in run) / len(run) for run in runs]
    best = [
        frame for run, mean in zip(runs, means, strict=True) if mean == max(means) for frame in run
    ]
    return min(best), max(best)


@contextmanager
def eager_attention(model: D2VLM) -> Iterator[None]:
    """Let all parts of a model compute attention step by step for a while."""
    config = model.config
    parts = (config, config.vision_config, config.qformer_config, config.text_config)
    before = [part._attn_implementation for part in parts]
    try:
        for part in parts:
            part._attn_implementation = "eager"
        yield
    finally:
        for part, implementation in zip(parts, before, strict=True):
            part._attn_implementation = implementation
