"""The exported vision encoder, and the compressor if it was exported, on onnxruntime.

Replaces a model's own `encode_frames` and `compress_each`. Knows neither videos nor prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidground.checkpoints.fingerprint import folder_fingerprint
from vidground.errors import CheckpointError
from vidground.features.onnx_folder import ExportFolder, check_weights, read_export
from vidground.features.onnx_providers import (
    GPU_FRAMES,
    PROVIDERS,
    check_provider,
    choose_provider,
    import_runtime,
    memory_errors,
    open_session,
    provider_options,
    session_errors,
)
from vidground.features.onnx_trial import Interface, require_sound
from vidground.model.configuration import D2VLMConfig
from vidground.model.d2vlm import D2VLM

_CPU_CACHE_BYTES = 8 << 20
"""On a CPU, the number of frames per run keeps the widest activation below this size.

Larger activations leave the processor's cache between two operators: at the released width, eight
frames at once take 10 to 20 % longer than one by one.
"""

_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.int64: np.int64}
_TORCH = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class OnnxVision:
    """The exported parts of a model; parts that were not exported run on torch.

    Args:
        folder: written by `vidground export onnx`.
        model: the model that was exported.
        provider: "cuda", "cpu" or "tensorrt"; None for one of the first two, by the model's device.
            TensorRT builds an engine on the first run of a graph, which takes minutes, so it must
            be requested; it computes in float16 if the export is in float16.

    Attributes:
        device: of the frames that `encode_frames` takes.
        dtype: of the frames that `encode_frames` takes.
        provider: the provider in use.
        content: fingerprint of the exported graphs.

    Raises:
        CheckpointError: the folder holds no export, or that of another model.
        InputError: onnxruntime is not installed, or the provider cannot be used.
    """

    def __init__(self, folder: str | Path, model: D2VLM, *, provider: str | None = None) -> None:
        runtime = import_runtime()
        export = read_export(folder)
        check_weights(export, model)
        self.content = folder_fingerprint(Path(folder).expanduser())
        self.provider = choose_provider(runtime, provider, export, model.device)
        self._model = model
        on_gpu = self.provider != "cpu" and model.device.type == "cuda"
        self.device = model.device if on_gpu else torch.device("cpu")
        for name in export.parts:
            providers = [PROVIDERS["cpu"]]
            if self.provider != "cpu":  # building TensorRT's engine for a trial would take minutes
                providers.insert(0, PROVIDERS["cuda"])
            interface = _interface(name, model.config)
            require_sound(_graph_file(export, name), interface, providers, digest=self.content)
        self._graphs = {
            name: _open(runtime, export, name, self.provider, self.device) for name in export.parts
        }
        sessions = {name: graph.session for name, graph in self._graphs.items()}
        self.provider = check_provider(sessions, self.provider, strict=provider is not None)
        self.dtype = self._graphs["vision"].dtype if "vision" in self._graphs else model.dtype
        parts = ", ".join(f"{name} {part.dtype}" for name, part in export.parts.items())
        self._description = f"onnxruntime {runtime.__version__} on {self.provider}: {parts}"

    def __str__(self) -> str:
        return self._description

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Compute patch features; see `VisionEncoder.forward`."""
        graph = self._graphs.get("vision")
        if graph is None:
            model = self._model
            return model.encode_frames(pixel_values.to(model.device, model.dtype))
        return graph.run({"pixel_values": pixel_values}, self._frames_per_run())

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Compute frame tokens for each question; see `FrameEncoder.compress_each`.

        Returns:
            (N, Q, H), in the model's dtype and on its device.
        """
        if "compressor" not in self._graphs:
            model = self._model
            return model.compress_each(patches.to(model.device, model.dtype), questions)
        ids = [torch.tensor([list(question)]) for question in questions]
        tokens = [self.compress(patches, question, torch.ones_like(question)) for question in ids]
        return torch.stack(tokens, dim=1)

    def compress(self, patches: Tensor, question_ids: Tensor, question_mask: Tensor) -> Tensor:
        """Run the exported compressor; see `FrameCompressor.forward`.

        Returns:
            (N, H), in the model's dtype and on its device.

        Raises:
            KeyError: the export has no compressor.
        """
        frames = patches.shape[0]
        feeds = {
            "patches": patches,  # (N, patches, width)
            "question_ids": question_ids.expand(frames, -1),  # (N, Q)
            "question_mask": question_mask.expand(frames, -1).to(torch.int64),  # (N, Q)
        }
        tokens = self._graphs["compressor"].run(feeds, self._frames_per_run())
        return tokens.to(self._model.device, self._model.dtype)

    def _frames_per_run(self) -> int:
        if self.provider != "cpu":
            return GPU_FRAMES
        sizes = self._model.config.vision_config
        patches = int(sizes.image_size // sizes.patch_size) ** 2 + 1
        return max(1, _CPU_CACHE_BYTES // (patches * int(sizes.intermediate_size) * 4))


@dataclass(frozen=True)
class _Graph:
    """A session of onnxruntime with torch tensors as inputs and output."""

    session: Any
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first input."""
        return _TORCH[self.session.get_inputs()[0].type]

    def run(self, feeds: Mapping[str, Tensor], size: int) -> Tensor:
        """Run the graph; tensors are copied only to change their type or device.

        Args:
            feeds: inputs by name, each (N, ...).
            size: maximum number of frames per run.

        Returns:
            (N, ...) on the session's device.
        """
        given = {name: self._prepare(tensor) for name, tensor in feeds.items()}
        frames = next(iter(given.values())).shape[0]
        output = self.session.get_outputs()[0]
        result = torch.empty(
            (frames, *output.shape[1:]), dtype=_TORCH[output.type], device=self.device
        )
        if self.device.type == "cuda":
            # onnxruntime uses a stream of its own, which does not wait for torch's.
            torch.cuda.current_stream(self.device).synchronize()
        for start in range(0, frames, size):
            binding = self.session.io_binding()
            for name, tensor in given.items():
                binding.bind_input(*self._bound(name, tensor[start : start + size]))
            binding.bind_output(*self._bound(output.name, result[start : start + size]))
            with memory_errors():
                self.session.run_with_iobinding(binding)  # returns when the result is complete
        return result

    def _prepare(self, tensor: Tensor) -> Tensor:
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.device, dtype).contiguous()

    def _bound(self, name: str, tensor: Tensor) -> tuple[Any, ...]:
        place = (self.device.type, self.device.index or 0)
        return (name, *place, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())


def _open(
    runtime: Any, export: ExportFolder, name: str, provider: str, device: torch.device
) -> _Graph:
    file = _graph_file(export, name)
    try:
        session = open_session(runtime, file, provider_options(provider, export, name, device))
    except session_errors(runtime) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{file} cannot be run: {reason}; export it again") from error
    return _Graph(session, device)


def _graph_file(export: ExportFolder, name: str) -> Path:
    part = export.parts[name]
    return export.path / (part.vnni_file if part.vnni_file and _has_vnni() else part.file)


def _interface(name: str, config: D2VLMConfig) -> Interface:
    """Return what the graph of a part takes and returns; see `export_onnx`."""
    size, vision = config.image_size, config.vision_config
    patches = (int(size // vision.patch_size) ** 2, int(vision.hidden_size))
    if name == "vision":
        return Interface({"pixel_values": (3, size, size)}, (), patches)
    question: dict[str, tuple[int | None, ...]] = {
        "question_ids": (None,),
        "question_mask": (None,),
    }
    inputs = {"patches": patches, **question}
    return Interface(inputs, tuple(question), (int(config.text_config.hidden_size),))


def _has_vnni() -> bool:
    """Return whether the CPU multiplies signed by unsigned bytes without overflow."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in described.splitlines() if line.startswith("flags")), "")
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags.split())
