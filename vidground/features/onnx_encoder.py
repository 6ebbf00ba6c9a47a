"""The vision encoder, and the compressor if it was exported, on onnxruntime.

Takes the place of a model's own `encode_frames` and `compress`. The only user of onnxruntime,
which is imported when a backend is opened. Knows no video and no prompt.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidground.checkpoints.fingerprint import folder_fingerprint
from vidground.errors import CheckpointError, InputError
from vidground.features.onnx_folder import ExportFolder, check_weights, read_export
from vidground.memory import is_out_of_memory
from vidground.model.d2vlm import D2VLM

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""onnxruntime's execution providers by the names used here."""

_INSTALL = "pip install 'vidground[onnx]' for NVIDIA GPUs, or 'vidground[onnx-cpu]'"
_ERRORS_ONLY = 3  # onnxruntime's log severity; it warns of much that needs no one's attention
_GPU_FRAMES = 64  # most frames in one run on a GPU; TensorRT prepares its engine for up to so many

_CPU_CACHE_BYTES = 8 << 20
"""On a CPU, frames are run so few at a time that the widest activation is no larger than this.

Larger ones leave the cache between two operators: at the official width eight frames at once
take 10 to 20 % more time than one by one.
"""

_DOUBLING = bytes.fromhex(
    "080812003a3a0a0e0a01780a017812017922034164641206646f75626c65"
    "5a0f0a0178120a0a08080112040a020802620f0a0179120a0a08080112040a02080242040a00100d"
)
"""An ONNX model (opset 13) with one node, y = x + x for x of two float32 numbers."""

_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.int64: np.int64}
_TORCH = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


class OnnxVision:
    """The exported parts of a model; parts that were not exported run on torch.

    Args:
        folder: what `vidground export onnx` wrote.
        model: the model it was exported from.
        provider: "cuda", "cpu" or "tensorrt"; None for the first two by the model's device.
            TensorRT builds an engine when a graph is first run, which takes minutes, so it has to
            be asked for; it computes in float16 if the export is in float16.

    device, dtype: of the frames that `encode_frames` takes. provider: the one really used.
    content: names the exported graphs.

    Raises:
        CheckpointError: the folder holds no export, or one of another model.
        InputError: onnxruntime is not installed, or the provider cannot be used.
    """

    def __init__(self, folder: str | Path, model: D2VLM, *, provider: str | None = None) -> None:
        runtime = _import_runtime()
        export = read_export(folder)
        check_weights(export, model)
        self.content = folder_fingerprint(Path(folder).expanduser())
        self.provider = _choose(runtime, provider, export, model)
        self._model = model
        on_gpu = self.provider != "cpu" and model.device.type == "cuda"
        self.device = model.device if on_gpu else torch.device("cpu")
        self._graphs = {
            name: _open(runtime, export, name, self.provider, self.device) for name in export.parts
        }
        self.provider = _really_used(self._graphs, self.provider, strict=provider is not None)
        self.dtype = self._graphs["vision"].dtype if "vision" in self._graphs else model.dtype
        parts = ", ".join(f"{name} {part.dtype}" for name, part in export.parts.items())
        self._description = f"onnxruntime {runtime.__version__} on {self.provider}: {parts}"

    def __str__(self) -> str:
        return self._description

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Patch features of normalised frames; see `VisionEncoder.forward`."""
        graph = self._graphs.get("vision")
        if graph is None:
            model = self._model
            return model.encode_frames(pixel_values.to(model.device, model.dtype))
        size = self._frames_per_run()
        return graph.run({"pixel_values": pixel_values}, size)

    def compress_each(self, patches: Tensor, questions: Sequence[Sequence[int]]) -> Tensor:
        """Frame tokens for each question, (N, Q, H), in the model's type and on its device."""
        if "compressor" not in self._graphs:
            model = self._model
            return model.compress_each(patches.to(model.device, model.dtype), questions)
        ids = [torch.tensor([list(question)]) for question in questions]
        tokens = [self.compress(patches, question, torch.ones_like(question)) for question in ids]
        return torch.stack(tokens, dim=1)

    def compress(self, patches: Tensor, question_ids: Tensor, question_mask: Tensor) -> Tensor:
        """What the exported compressor makes of frames, (N, H); see `FrameCompressor.forward`.

        Raises:
            KeyError: the export has no compressor.
        """
        frames = patches.shape[0]
        feeds = {
            "patches": patches,
            "question_ids": question_ids.expand(frames, -1),
            "question_mask": question_mask.expand(frames, -1).to(torch.int64),
        }
        tokens = self._graphs["compressor"].run(feeds, self._frames_per_run())
        return tokens.to(self._model.device, self._model.dtype)

    def _frames_per_run(self) -> int:
        if self.provider != "cpu":
            return _GPU_FRAMES
        sizes = self._model.config.vision_config
        patches = int(sizes.image_size // sizes.patch_size) ** 2 + 1
        return max(1, _CPU_CACHE_BYTES // (patches * int(sizes.intermediate_size) * 4))


@dataclass(frozen=True)
class _Graph:
    """A session of onnxruntime, with tensors of torch as its inputs and output."""

    session: Any
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first input."""
        return _TORCH[self.session.get_inputs()[0].type]

    def run(self, feeds: Mapping[str, Tensor], size: int) -> Tensor:
        """Run all frames, at most `size` at a time; nothing is copied but to change its type."""
        given = {name: self._prepared(tensor) for name, tensor in feeds.items()}
        frames = next(iter(given.values())).shape[0]
        output = self.session.get_outputs()[0]
        result = torch.empty(
            (frames, *output.shape[1:]), dtype=_TORCH[output.type], device=self.device
        )
        if self.device.type == "cuda":
            # onnxruntime works on a stream of its own, which does not wait for torch's.
            torch.cuda.current_stream(self.device).synchronize()
        for start in range(0, frames, size):
            binding = self.session.io_binding()
            for name, tensor in given.items():
                binding.bind_input(*self._bound(name, tensor[start : start + size]))
            binding.bind_output(*self._bound(output.name, result[start : start + size]))
            with _memory_errors():
                self.session.run_with_iobinding(binding)  # returns when the result is there
        return result

    def _prepared(self, tensor: Tensor) -> Tensor:
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.device, dtype).contiguous()

    def _bound(self, name: str, tensor: Tensor) -> tuple[Any, ...]:
        place = (self.device.type, self.device.index or 0)
        return (name, *place, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())


def _import_runtime() -> Any:
    # Otherwise onnxruntime keeps an id of this machine and sends its maker reports of use. It
    # begins when it is imported, so that its own function comes too late.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(f"onnxruntime is not installed; {_INSTALL}") from error
    except ImportError as error:
        raise InputError(
            f"onnxruntime is installed and cannot be imported ({error}); install it again: "
            f"{_INSTALL}"
        ) from error
    return onnxruntime


def _choose(runtime: Any, asked: str | None, export: ExportFolder, model: D2VLM) -> str:
    """The provider to try: the one asked for, else that of the model's device."""
    if asked is not None and asked not in PROVIDERS:
        raise InputError(f"provider is {asked!r}; it must be one of {', '.join(PROVIDERS)}")
    if asked == "cpu":
        return asked
    if asked is None and model.device.type != "cuda":
        return "cpu"
    wanted = asked or "cuda"
    reason = _missing(runtime, wanted)
    if reason is not None:
        raise InputError(
            f"onnxruntime cannot use provider {wanted!r} here; {reason}; or ask for provider 'cpu'"
        )
    if export.dtype == "int8":
        raise InputError(
            f"{export.path} is in int8, which runs on the CPU only; export fp16 for {wanted}, or "
            "ask for provider 'cpu'"
        )
    return wanted


def _missing(runtime: Any, name: str) -> str | None:
    """What a provider for GPUs lacks here, as far as can be seen, with the remedy."""
    if not torch.cuda.is_available():
        return "the machine has no GPU that can be used"
    if PROVIDERS[name] not in runtime.get_available_providers():  # what it was built with
        return f"needed: {_INSTALL}"
    if name == "tensorrt" and not _has_tensorrt():
        return "TensorRT 10 is not installed (libnvinfer.so.10)"
    return None


def _has_tensorrt() -> bool:
    """Whether TensorRT's library can be loaded; onnxruntime would log errors if not."""
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return False
    return True


def _open(
    runtime: Any, export: ExportFolder, name: str, provider: str, device: torch.device
) -> _Graph:
    part = export.parts[name]
    file = part.vnni_file if part.vnni_file and _has_vnni() else part.file
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    providers = _providers(provider, export, name, device)
    try:
        with _memory_errors():
            session = runtime.InferenceSession(
                str(export.path / file), options, providers=providers
            )
    except _errors(runtime) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{export.path / file} cannot be run: {reason}; export it again"
        ) from error
    return _Graph(session, device)


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """What onnxruntime raises when a session cannot be opened or run."""
    states = runtime.capi.onnxruntime_pybind11_state
    return (
        states.EPFail,
        states.Fail,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NoSuchFile,
        states.NotImplemented,
        states.RuntimeException,
    )


def provider_faults() -> dict[str, str | None]:
    """Try the providers that nothing is missing for, by their names here, with a tiny graph.

    Returns:
        For each provider why it does not work; None for one that opens a session and computes.

    Raises:
        InputError: onnxruntime cannot be imported.
    """
    runtime = _import_runtime()
    return {
        name: _fault(runtime, name)
        for name in PROVIDERS
        if name == "cpu" or _missing(runtime, name) is None
    }


def _fault(runtime: Any, name: str) -> str | None:
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    numbers = np.array([1.5, -2.0], np.float32)
    try:
        session = runtime.InferenceSession(_DOUBLING, options, providers=[PROVIDERS[name]])
        used = session.get_providers()[0]
        if used != PROVIDERS[name]:
            return f"falls back to {used}"
        (doubled,) = session.run(None, {"x": numbers})
    except _errors(runtime) as error:
        return str(error).strip().splitlines()[0]
    return None if np.array_equal(doubled, 2 * numbers) else f"computes {doubled} for [3, -4]"


def _providers(
    provider: str, export: ExportFolder, name: str, device: torch.device
) -> list[tuple[str, dict[str, Any]]]:
    """What a session may use, best first; every list ends with the CPU."""
    chosen: list[tuple[str, dict[str, Any]]] = []
    place = {"device_id": device.index or 0}
    # Memory that onnxruntime's arena takes beyond what it needs would be missing to torch.
    frugal = {"arena_extend_strategy": "kSameAsRequested"}
    if provider == "tensorrt" and name == "vision":
        size = export.details["preprocessing"]["image_size"]
        shapes = {"min": 1, "opt": 16, "max": _GPU_FRAMES}
        profile = {
            f"trt_profile_{kind}_shapes": f"pixel_values:{frames}x3x{size}x{size}"
            for kind, frames in shapes.items()
        }
        cache = {"trt_engine_cache_path": str(export.path), "trt_engine_cache_enable": True}
        writable = os.access(export.path, os.W_OK)  # building an engine takes minutes
        half = {"trt_fp16_enable": export.parts[name].dtype == "float16"}
        chosen.append((PROVIDERS["tensorrt"], place | profile | half | (cache if writable else {})))
    if provider != "cpu":
        chosen.append((PROVIDERS["cuda"], place | frugal))
    return [*chosen, (PROVIDERS["cpu"], {})]


def _really_used(graphs: Mapping[str, _Graph], wanted: str, *, strict: bool) -> str:
    """The provider that the sessions got; onnxruntime falls back without an exception."""
    first = next(graphs[name] for name in ("vision", "compressor") if name in graphs)
    long_name = first.session.get_providers()[0]
    used = next(name for name in PROVIDERS if PROVIDERS[name] == long_name)
    on_cpu = [
        name
        for name, graph in graphs.items()
        if graph.session.get_providers()[0] == PROVIDERS["cpu"]
    ]
    if wanted == "cpu" or (not on_cpu and (used == wanted or not strict)):
        return used
    raise InputError(
        f"onnxruntime was to run on {wanted} and fell back to "
        f"{'cpu' if on_cpu else used}; install the CUDA and cuDNN "
        "that it needs (its messages above name what is missing), or ask for provider 'cpu'"
    )


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Let onnxruntime raise what Python does when memory runs out; it has no error for that."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"onnxruntime: {str(error).strip()}") from error


def _has_vnni() -> bool:
    """Whether the CPU multiplies signed and unsigned bytes without running over."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in described.splitlines() if line.startswith("flags")), "")
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags.split())
