"""The vision encoder and the compressor as ONNX graphs in a folder that `OnnxVision` opens.

Traces what the model computes; whether the graphs give the same is `vidground.export.parity`'s
matter. Needs the packages of the extra `export`.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir
import torch
from torch import nn

from vidground.errors import InputError
from vidground.export.quantization import quantize_products, signed_variant
from vidground.features.onnx_folder import (
    MANIFEST,
    PARTS,
    ExportedPart,
    ExportFolder,
    weights_digest,
)
from vidground.model.d2vlm import D2VLM
from vidground.storage.atomic import make_folder
from vidground.version import __version__
from vidground.video.preprocessing import CLIP_MEAN, CLIP_STD

Part = TypeVar("Part", bound=nn.Module)

OPSET = 20
"""Version of the operators: the first with Gelu, which TensorRT 10 and onnxruntime 1.18 know."""

DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}

EXTERNAL_BYTES = (2 << 30) - (1 << 20)
"""Graphs with more bytes of weights keep them in a file beside: protobuf ends at 2 GiB."""

_PRODUCTS_PER_BLOCK = 4  # of a vision block: query, key and value; projection; two of the MLP
_BLOCKS_PER_FLOAT_BLOCK = 16
_INLINE_BYTES = 1024  # tensors up to so large stay in the graph file


def float_blocks(blocks: int) -> int:
    """How many of the vision encoder's first blocks int8 leaves in float, if not told: 2 of 39.

    What the first blocks get wrong all later ones build on. On random weights of the official
    size, one block in float takes a quarter off the error of all 39.
    """
    return blocks // _BLOCKS_PER_FLOAT_BLOCK


def export_onnx(
    model: D2VLM,
    folder: str | Path,
    *,
    dtype: str = "fp32",
    parts: Sequence[str] = ("vision",),
    blocks_in_float: int | None = None,
    external_bytes: int = EXTERNAL_BYTES,
) -> ExportFolder:
    """Write parts of a model as ONNX graphs, and export.json.

    - vision: pixel_values (N, 3, S, S), normalised, to patches (N, patches, width).
    - compressor: patches, question_ids (N, Q) and question_mask (N, Q) to tokens (N, H).

    N and Q are free. The compressor, 2 % of the work, stays in float32 with int8.

    Args:
        folder: new or empty, or an earlier export, whose graphs are replaced.
        dtype: "fp32", "fp16", or "int8" for CPUs.
        blocks_in_float: see `float_blocks`; int8 only.
        external_bytes: graphs with larger weights keep them in a file beside.

    Raises:
        InputError: an argument is not one of those named here.
    """
    blocks = int(model.config.vision_config.num_hidden_layers)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    if not parts or set(parts) - set(PARTS):
        raise InputError(f"parts are {list(parts)}; they must be of {', '.join(PARTS)}")
    if dtype == "int8" and "vision" not in parts:
        raise InputError("int8 is for the vision encoder; export the compressor as fp32 or fp16")
    if blocks_in_float is None:
        blocks_in_float = float_blocks(blocks)
    elif dtype != "int8":
        raise InputError(f"blocks_in_float is for int8; {dtype} has all blocks in float")
    if not 0 <= blocks_in_float < blocks:
        raise InputError(f"{blocks_in_float} blocks in float of {blocks}; leave at least one")
    target = Path(folder)
    make_folder(target)
    for name in (MANIFEST, "parity.json"):  # until all is written it is no export
        (target / name).unlink(missing_ok=True)
    for name in PARTS:  # a part that is not exported now would stay, and be no part of the export
        for file in _files(name):
            (target / file).unlink(missing_ok=True)
    details = _details(model, dtype, blocks_in_float)
    written: dict[str, ExportedPart] = {}
    for name in PARTS:
        if name in parts:
            written[name] = _export_part(
                model, target, name, dtype, details, blocks_in_float, external_bytes
            )
    export = ExportFolder(target, written, details)
    export.save()
    return export


def _export_part(
    model: D2VLM,
    folder: Path,
    name: str,
    dtype: str,
    details: dict[str, Any],
    blocks_in_float: int,
    external_bytes: int,
) -> ExportedPart:
    quantized = dtype == "int8" and name == "vision"
    floating = torch.float16 if dtype == "fp16" else torch.float32
    module = in_float(getattr(model, name), floating)
    graph = _TRACERS[name](module, model, floating)
    file, beside, variant = _files(name)
    if quantized:
        quantize_products(graph.graph, skip=blocks_in_float * _PRODUCTS_PER_BLOCK)
    stored = "int8" if quantized else str(floating).removeprefix("torch.")
    digest = weights_digest(getattr(model, name))
    graph.metadata_props.update(_metadata(details, stored, digest))
    # The two forms of an int8 graph share one file of weights.
    external = quantized or _weight_bytes(graph) > external_bytes
    data = beside if external else None
    ir.save(graph, folder / file, external_data=data, size_threshold_bytes=_INLINE_BYTES)
    if quantized:
        signed = ir.load(folder / file)
        signed_variant(signed.graph)
        ir.save(signed, folder / variant)
    return ExportedPart(file, stored, digest, variant if quantized else None)


def _files(name: str) -> tuple[str, str, str]:
    """A part's graph, the weights that it keeps in a file beside, and its form for VNNI."""
    return f"{name}.onnx", f"{name}.onnx.data", f"{name}_vnni.onnx"


def in_float(module: Part, dtype: torch.dtype) -> Part:
    """The module in one type on the CPU; a copy unless it is that already."""
    if all(p.dtype == dtype and p.device.type == "cpu" for p in module.parameters()):
        return module
    return copy.deepcopy(module).to("cpu", dtype)


def _trace_vision(module: nn.Module, model: D2VLM, dtype: torch.dtype) -> ir.Model:
    size = model.config.image_size
    frames = torch.export.Dim("frames", min=1)
    return _trace(
        module,
        {"pixel_values": (torch.zeros(2, 3, size, size, dtype=dtype), {0: frames})},
        output="patches",
    )


def _trace_compressor(module: nn.Module, model: D2VLM, dtype: torch.dtype) -> ir.Model:
    sizes = model.config.vision_config
    patches = torch.zeros(
        2, (sizes.image_size // sizes.patch_size) ** 2, sizes.hidden_size, dtype=dtype
    )
    frames = torch.export.Dim("frames", min=1)
    free = {0: frames, 1: torch.export.Dim("question", min=1)}
    words = torch.ones(2, 5, dtype=torch.int64)
    return _trace(
        module,
        {
            "patches": (patches, {0: frames}),
            "question_ids": (words, free),
            "question_mask": (words.clone(), free),
        },
        output="tokens",
    )


_TRACERS: dict[str, Callable[[nn.Module, D2VLM, torch.dtype], ir.Model]] = {
    "vision": _trace_vision,
    "compressor": _trace_compressor,
}


def _trace(
    module: nn.Module, inputs: dict[str, tuple[torch.Tensor, dict[int, Any]]], *, output: str
) -> ir.Model:
    """The graph of a module; its weights are those in memory, not copied."""
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(free for _, free in inputs.values()),
            verbose=False,
        )
    assert program is not None
    return program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's word on torchvision, which is not needed, and on its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            # Two inputs have the same free size, which is what is meant; and what transformers
            # notes while it runs is no part of the graph.
            for message in ("# The axis name", "While compiling, we found"):
                warnings.filterwarnings("ignore", message, UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _details(model: D2VLM, dtype: str, blocks_in_float: int) -> dict[str, Any]:
    own = {"blocks_in_float": blocks_in_float} if dtype == "int8" else {}
    return {
        "model": str(model.name_or_path),
        "revision": getattr(model.config, "_commit_hash", None),
        "vidground_version": __version__,
        "torch_version": torch.__version__,
        "opset": OPSET,
        "dtype": DTYPES[dtype],
        **own,
        "preprocessing": {
            "image_size": model.config.image_size,
            "colours": "RGB",
            "resize": "shorter side to image_size, antialiased bilinear, then the centre square",
            "scale": 1 / 255,
            "mean": list(CLIP_MEAN),
            "std": list(CLIP_STD),
        },
    }


def _metadata(details: dict[str, Any], stored: str, digest: str) -> dict[str, str]:
    """The same for the graph file, whose properties are strings."""
    values = {**details, "dtype": stored, "weights_digest": digest}
    return {
        f"vidground.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def _weight_bytes(model: ir.Model) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
