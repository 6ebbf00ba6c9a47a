"""Estimate the memory of a training step, and the disk space of a run, without using them.

Weights, gradients and optimizer states are counted from the parameters. Activations that the
backward pass needs are counted by a forward pass over fake tensors, which have shapes and types
but no content.
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
from vidground.training.config import RunConfig
from vidground.training.objectives.losses import token_log_probs

_MOMENTS = 2  # of AdamW, each as large as the trainable parameters
_GIBIBYTE = 1 << 30
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class SampleLengths:
    """Lengths of a sample.

    Attributes:
        frames: frames of its video.
        question: tokens that the Q-Former reads with each frame.
        prompt: text tokens around the frames.
        answer: tokens of a response.
        responses: 1 for SFT, 2 for FPO.
        intervals: `<evi>` tokens of a response.
    """

    frames: int
    question: int
    prompt: int
    answer: int
    responses: int = 1
    intervals: int = 8

    @property
    def tokens(self) -> int:
        """Length of the sequence in the language model."""
        return self.frames + self.prompt + self.responses * self.answer

    def __str__(self) -> str:
        answer = f"{self.answer} tokens" if self.responses == 1 else f"2 x {self.answer} tokens"
        return f"{self.frames} frames, {self.prompt} tokens of prompt, {answer} of answer"


@dataclass(frozen=True)
class FixedMemory:
    """Bytes that do not depend on the batch.

    Attributes:
        weights: frozen ones in their type, trainable ones in float32.
        gradients: of the trainable parameters, in float32.
        optimizer: AdamW's two moments of each trainable parameter, in float32.
        copies: further copies of the trainable parameters, for the exchange between processes
            and for the reference.
    """

    weights: int
    gradients: int
    optimizer: int
    copies: int = 0

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.weights + self.gradients + self.optimizer + self.copies


def fixed_memory(model: nn.Module, *, processes: int = 1, reference: bool = False) -> FixedMemory:
    """Return the memory of training before the first batch; works on the meta device.

    Args:
        model: prepared for training.
        processes: processes that train together by DDP, each with the whole model.
        reference: whether a frozen copy of the trainable parameters is needed.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trainable = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    copies = int(processes > 1) + int(reference)
    return FixedMemory(weights, trainable, _MOMENTS * trainable, copies * trainable)


def batch_memory(
    model: D2VLM, lengths: SampleLengths, batch_size: int, *, precision: torch.dtype, pixels: bool
) -> int:
    """Return the bytes of activations that a batch stores for the backward pass.

    The encoding of the frames is included. Attention is assumed to be fused, so that nothing
    quadratic in the length is stored; frozen encoders store nothing and need the activations of
    one layer at a time. The backward pass itself, about one more layer, is not counted.

    Args:
        model: prepared for training, in training mode, on the meta device.
        lengths: of all samples of the batch.
        batch_size: number of samples.
        precision: of the forward pass.
        pixels: whether frames are encoded in every step.
    """
    shaped = copy.deepcopy(model)
    with FakeTensorMode():
        _make_fake(shaped)
        saved = _SavedTensors(shaped)
        enabled = precision != torch.float32
        with saved.recorded(), torch.autocast("cpu", precision, enabled=enabled):
            _forward(shaped, lengths, batch_size, pixels=pixels)
    return saved.bytes + (_encoding(model, lengths, batch_size, precision) if pixels else 0)


def _make_fake(model: D2VLM) -> None:
    """Replace parameters and buffers by fake tensors; call this in `FakeTensorMode`."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _SavedTensors:
    """Counts the storages that autograd saves, each once; without weights, but with copies."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights = {p.untyped_storage()._cdata for p in model.parameters()}
        self._seen: dict[int, Tensor] = {}  # keeps the tensors alive, so that no address is reused

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._seen.values())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        # A recomputed layer stores its input without autograd's hooks.
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
    """Run the parts of the forward pass that store activations, on a batch without padding."""
    vision, layers = model.config.vision_config, model.config.text_config.num_hidden_layers
    frames = batch_size * lengths.frames
    trained = any(p.requires_grad for p in model.vision.parameters())
    dtype = next(model.vision.parameters()).dtype
    if pixels and trained:
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
    answers = lengths.responses * lengths.answer
    model.evidence_head(matching[:, : 2 * lengths.responses * lengths.intervals])
    labels = torch.zeros(batch_size, answers, dtype=torch.long)
    token_log_probs(model.logits(final[:, -answers:]), labels)


def _encoding(model: D2VLM, lengths: SampleLengths, batch_size: int, precision: torch.dtype) -> int:
    """Return the widest activations of a layer of a frozen encoder; 0 if it is trained."""
    if any(p.requires_grad for p in model.vision.parameters()):
        return 0
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    widest = int(vision.hidden_size + 2 * vision.intermediate_size)
    return batch_size * lengths.frames * int(patches) * widest * precision.itemsize


@dataclass(frozen=True)
class DiskSpace:
    """Bytes of a run's folder, computed from its parameters.

    Attributes:
        model: a model as the run writes it, in a checkpoint or at the end.
        state: trainable parameters and optimizer states, which a checkpoint adds.
        kept: checkpoints that are kept at once; None for all.
    """

    model: int
    state: int
    kept: int | None

    @property
    def checkpoint(self) -> int:
        """Bytes of one checkpoint."""
        return self.model + self.state

    @property
    def peak(self) -> int | None:
        """Most bytes at any time: one checkpoint or model more than is kept; None without limit."""
        return None if self.kept is None else (self.kept + 1) * self.checkpoint + 2 * self.model

    def __str__(self) -> str:
        def size(count: int) -> str:
            return f"{count / _GIBIBYTE:.2f} GiB"

        total = "all are kept" if self.peak is None else f"at most {size(self.peak)} in total"
        return (
            f"disk: {size(self.model)} for the model, {size(self.checkpoint)} for each "
            f"checkpoint, {total}"
        )


def disk_space(model: nn.Module, stored: torch.dtype, config: RunConfig) -> DiskSpace:
    """Return the disk space of a run; works on the meta device.

    Args:
        model: prepared for training.
        stored: type of the weights that the run starts from, and is saved in.
        config: of the run.
    """
    named = dict(model.named_parameters())
    trained = sum(p.numel() for p in named.values() if p.requires_grad)
    whole = sum(p.numel() for name, p in named.items() if ".lora_" not in name)
    adapter = config.output.weights == "adapter"
    size = trained * _FLOAT32_BYTES if adapter else whole * stored.itemsize
    kept: int | None = 0
    if config.output.save_every is not None or config.output.model == "best":
        kept = config.output.keep
        if kept is not None and config.output.model == "best":
            kept = max(2, kept)
    return DiskSpace(size, (1 + _MOMENTS) * trained * _FLOAT32_BYTES, kept)
