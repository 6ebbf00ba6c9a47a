"""Run the model as the released code does, as the baseline of benchmarks.

One video at a time. Every frame of the file is decoded on one thread; the sampled ones are all held
at full size and resized as floats. All frames are encoded at once, with eager attention. The states
before and after every layer are kept for every position and every token, and logits are computed in
float32 for every position of the prompt. The key-value cache is copied for every token; the host
waits for each token and searches for evidence frame by frame.

Other overhead of the released code is left out (self-checks, copies between libraries, images of
frames that are not sampled). Frames are sampled, and prompts formatted, as ours are. Like the
released code, it ignores rotation and the pixel aspect ratio.
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
from vidground.video.frame_sampler import FrameSampler
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
    """Return the greedy answer to a prompt on a whole video, as one window.

    Args:
        model: to run.
        path: of the video.
        prompt: to answer.
        fps: sampled frames per second of video.
        tokens: maximum length of the answer, above 0.
        meter: to which the stages are added.

    Raises:
        VideoError: the file cannot be read.
        InputError: the prompt does not fit.
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
    """Return all sampled frames as stored: (T, height, width, 3) RGB."""
    frames: list[npt.NDArray[np.uint8]] = []
    for shown in FrameSampler(path, fps=fps).frames(skip=False):
        frames += [shown.frame.rgb()] * (shown.last - shown.first + 1)
    return np.stack(frames)


def prepare_floats(frames: npt.NDArray[np.uint8], image_size: int) -> Tensor:
    """Resize, crop and normalise frames as floats: (T, height, width, 3) to (T, 3, S, S)."""
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
    """Return the greedy answer to one prompt, of at most `tokens` tokens."""
    with eager_attention(model):
        with meter.stage(PREFILL):
            answer = _GreedyAnswer(model, batch_prompts(model, [prompt]))
            answer.choose()
        with meter.stage(TOKENS):
            while len(answer.token_ids) < tokens and not answer.ended:
                answer.step()
                answer.choose()
    return Generation(
        answer.token_ids,
        tuple(answer.evidence),
        answer.prompt_curve,
        truncated=not answer.ended,
    )


class GrowingCache(KeyValueCache):
    """A cache that is copied whenever a token is added, like transformers' DynamicCache."""

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


class _GreedyAnswer:
    """An answer being generated; `steps` holds the states and logits of all steps."""

    def __init__(self, model: D2VLM, batch: PromptBatch) -> None:
        self.token_ids: list[int] = []
        self.evidence: list[Evidence] = []
        self.ended = False
        self.steps: list[tuple[list[Tensor], Tensor]] = []
        self._model = model
        self._cache = GrowingCache(model.config.text_config.num_hidden_layers)
        self._length = batch.embeds.shape[1]
        self._run(batch.embeds, batch.position_ids, batch.visible())
        states = self.steps[0][0]
        self._memory = batch.at_frames(states[model.config.memory_layer])[0]
        keys = states[model.config.frame_key_layer]
        self._frame_keys = model.frame_head(batch.at_frames(keys))[0]
        self.prompt_curve = self._relevance()

    def choose(self) -> None:
        """Append the likeliest token, and find its frames if it is a time token."""
        config = self._model.config
        token = int(self.steps[-1][1][0, -1].argmax())
        self.ended = token == config.turn_end_token_id
        embeds = self._model.get_input_embeddings()(
            torch.tensor([[token]], device=self._model.device)
        )
        if token == config.time_token_id:
            curve = self._relevance()
            first = last = int(curve.argmax())
            if not config.matches:
                first, last = best_run(curve.tolist(), threshold=config.evidence_threshold)
            matched = (first,) if config.matches else ()
            self.evidence.append(Evidence(len(self.token_ids), first, last, curve, matched))
            if config.evidence_semantics:
                embeds = embeds + self._memory[first : last + 1].mean(0)
        self.token_ids.append(token)
        self._next = embeds

    def step(self) -> None:
        """Run the model on the last token."""
        device = self._model.device
        position = torch.tensor([[self._length]], device=device)
        self._length += 1
        visible = torch.ones(1, 1, self._length, dtype=torch.bool, device=device)
        self._run(self._next, position, visible)

    def _run(self, embeds: Tensor, positions: Tensor, visible: Tensor) -> None:
        """Append the states before and after every layer, and the logits at every position."""
        context = self._model.context(positions, visible, self._cache)
        states = [embeds]
        for layer in range(self._model.config.text_config.num_hidden_layers):
            states.append(self._model.run_layers(states[-1], layer, layer + 1, context))
        self.steps.append((states, self._model.logits(states[-1]).float()))

    def _relevance(self) -> Tensor:
        state = self.steps[-1][0][self._model.config.matching_layer][0, -1]
        scores = self._frame_keys @ self._model.evidence_head(state)
        if self._model.config.matches:
            curve: Tensor = scores.float().softmax(0)
            return curve.cpu()
        return torch.sigmoid(scores.float() / state.shape[-1] ** 0.5).cpu()


def best_run(curve: list[float], *, threshold: float) -> tuple[int, int]:
    """Find the interval of a curve as `evidence.best_interval` does, frame by frame."""
    cutoff = threshold * max(curve)
    runs: list[list[int]] = []
    for frame, value in enumerate(curve):
        if value < cutoff:
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
    """Make all parts of a model use eager attention inside the block."""
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
