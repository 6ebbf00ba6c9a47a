"""How much memory a step of training takes, without taking it.

Weights, gradients and optimizer states are counted from the parameters. What the backward pass
needs of the forward pass is counted by a forward pass over tensors that have shapes and types and
no content. Knows neither data nor configuration files.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

from vidground.model.d2vlm import D2VLM
from vidground.training.objectives.losses import token_log_probs

_MOMENTS = 2  # of AdamW, each as large as what learns


@dataclass(frozen=True)
class SampleLengths:
    """How long a sample is.

    frames: of its video. question: tokens that the Q-Former reads with each of them. prompt: text
    tokens around the frames. answer: tokens of a response. responses: 1, or 2 for FPO. intervals:
    `<evi>` of a response.
    """

    frames: int
    question: int
    prompt: int
    answer: int
    responses: int = 1
    intervals: int = 8

    @property
    def tokens(self) -> int:
        """What passes the language model."""
        return self.frames + self.prompt + self.responses * self.answer

    def __str__(self) -> str:
        said = f"{self.answer} tokens" if self.responses == 1 else f"2 x {self.answer} tokens"
        return f"{self.frames} frames, {self.prompt} tokens of prompt, {said} of answer"


@dataclass(frozen=True)
class FixedMemory:
    """Bytes that do not depend on the batch.

    weights: frozen ones in their type, those that learn in float32. gradients, optimizer: of what
    learns, in float32; AdamW has two moments of each. copies: a second set of what learns, for
    exchange between processes, and a third as reference.
    """

    weights: int
    gradients: int
    optimizer: int
    copies: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.copies


def fixed_memory(model: nn.Module, *, processes: int = 1, reference: bool = False) -> FixedMemory:
    """What training a prepared model takes before the first batch; works on the meta device.

    Args:
        processes: that train together by DDP, each with the whole model. reference: a frozen copy
            of what learns is kept.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    learning = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    copies = int(processes > 1) + int(reference)
    return FixedMemory(weights, learning, _MOMENTS * learning, copies * learning)


def batch_memory(
    model: D2VLM, lengths: SampleLengths, batch_size: int, *, precision: torch.dtype, pixels: bool
) -> int:
    """Bytes that the forward pass of a batch keeps for the backward pass, and the frames' encoding.

    Attention is taken to be fused, so that it keeps no square of the length; frozen encoders keep
    nothing and need the states of one layer at a time. What the backward pass itself needs is not
    counted: about one layer more.

    Args:
        model: prepared for training, in training mode; on the meta device.
        precision: that layers compute in. pixels: frames are encoded in every step.
    """
    shaped = copy.deepcopy(model)
    with FakeTensorMode():
        _take_content(shaped)
        kept = _Kept(shaped)
        enabled = precision != torch.float32
        with kept.recorded(), torch.autocast("cpu", precision, enabled=enabled):
            _forward(shaped, lengths, batch_size, pixels=pixels)
    return kept.bytes + (_encoding(model, lengths, batch_size, precision) if pixels else 0)


def _take_content(model: D2VLM) -> None:
    """Leave shapes and types only; to be called in the mode of such tensors."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _Kept:
    """Counts what autograd keeps, every storage once; weights do not count, copies of them do."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights = {p.untyped_storage()._cdata for p in model.parameters()}
        self._seen: dict[int, Tensor] = {}  # the tensors are held, so that no number comes again

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._seen.values())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        # A layer that is computed again keeps its input, which autograd is not told of.
        hooks = [
            module.register_forward_pre_hook(lambda _module, inputs: self._note(inputs[0]))
            for module in self._model.modules()
            if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
        ]
        with saved_tensors_hooks(self._noted, lambda tensor: tensor):
            yield
        for hook in hooks:
            hook.remove()

    def _noted(self, tensor: Tensor) -> Tensor:
        self._note(tensor)
        return tensor

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()._cdata
        if storage not in self._weights:
            self._seen.setdefault(storage, tensor)


def _forward(model: D2VLM, lengths: SampleLengths, batch_size: int, *, pixels: bool) -> None:
    """Run the parts of the training pass that keep states, on a batch without padding."""
    vision, layers = model.config.vision_config, model.config.text_config.num_hidden_layers
    frames = batch_size * lengths.frames
    learns = any(p.requires_grad for p in model.vision.parameters())
    dtype = next(model.vision.parameters()).dtype
    if pixels and learns:
        side = vision.image_size
        patches = model.encode_frames(torch.empty(frames, 3, side, side, dtype=dtype))
    else:
        count = (vision.image_size // vision.patch_size) ** 2
        patches = torch.empty(frames, count, vision.hidden_size, dtype=dtype)
    question = torch.zeros(frames, lengths.question, dtype=torch.long)
    tokens = model.compress(patches, question).reshape(batch_size, lengths.frames, -1)
    text = lengths.tokens - lengths.frames
    words = model.get_input_embeddings()(torch.zeros(batch_size, text, dtype=torch.long))
    embeds = torch.cat((tokens.to(words.dtype), words), dim=1)
    positions = torch.zeros(batch_size, lengths.tokens, dtype=torch.long)
    visible = torch.ones(batch_size, lengths.tokens, lengths.tokens, dtype=torch.bool)
    context = model.context(positions, visible)
    matching = model.run_layers(embeds, 0, layers - 1, context)
    final = model.run_layers(matching, layers - 1, layers, context)
    model.frame_head(matching[:, : lengths.frames])
    said = lengths.responses * lengths.answer
    model.evidence_head(matching[:, : 2 * lengths.responses * lengths.intervals])
    token_log_probs(model.logits(final[:, -said:]), torch.zeros(batch_size, said, dtype=torch.long))


def _encoding(model: D2VLM, lengths: SampleLengths, batch_size: int, precision: torch.dtype) -> int:
    """States of one layer of a frozen vision encoder, at its widest; 0 if it learns."""
    if any(p.requires_grad for p in model.vision.parameters()):
        return 0
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    widest = int(vision.hidden_size + 2 * vision.intermediate_size)
    return batch_size * lengths.frames * int(patches) * widest * precision.itemsize
