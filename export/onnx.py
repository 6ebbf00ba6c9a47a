"""Export the vision encoder and the compressor as ONNX graphs, to a folder that `OnnxVision` opens.

`vidground.export.parity` compares the graphs with the model. Needs the extra `export`.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
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
)
from vidground.model.d2vlm import D2VLM
from vidground.model.weight_digests import rounded_digest
from vidground.storage.atomic import make_folder
from vidground.version import __version__
from vidground.video.preprocessing import CLIP_MEAN, CLIP_STD

Part = TypeVar("Part", bound=nn.Module)

OPSET = 20
"""The first operator set with Gelu; supported by TensorRT 10 and onnxruntime 1.18."""

PARITY = "parity.json"
"""File that `vidground.export.parity` writes beside the graphs."""

DTYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}

EXTERNAL_BYTES = (2 << 30) - (1 << 20)
"""Graphs with more bytes of weights store them in a separate file: protobuf's limit is 2 GiB."""

_PRODUCTS_PER_BLOCK = 4  # of a vision block: query, key and value; projection; two of the MLP
_BLOCKS_PER_FLOAT_BLOCK = 16
_INLINE_BYTES = 1024  # larger tensors are stored outside the graph file


def float_blocks(blocks: int) -> int:
    """Return the default number of first vision blocks that int8 leaves in float: 2 of 39.

    Errors of the first blocks propagate through all later ones. With random weights of the official
    size, one block in float reduces the error by a quarter.
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

    N and Q are dynamic. With int8 the compressor, 2 % of the work, stays in float32.

    Args:
        model: to export.
        folder: new or empty, or an earlier export, which is replaced.
        dtype: "fp32", "fp16", or "int8" for CPUs.
        parts: "vision", "compressor", or both.
        blocks_in_float: number of first vision blocks that int8 leaves in float; None for
            `float_blocks`.
        external_bytes: weights larger than this are stored in a separate file.

    Returns:
        The export.

    Raises:
        InputError: an argument is not accepted.
    """
    blocks = int(model.config.vision_config.num_hidden_layers)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    if not parts or set(parts) - set(PARTS):
        raise InputError(f"parts are {list(parts)}; they must be of {', '.join(PARTS)}")
    if dtype == "int8" and "vision" not in parts:
        raise InputError(
            "int8 is for the vision encoder only; export the compressor as fp32 or fp16"
        )
    if blocks_in_float is None:
        blocks_in_float = float_blocks(blocks)
    elif dtype != "int8":
        raise InputError(f"blocks_in_float is for int8 only; with {dtype} all blocks are in float")
    if not 0 <= blocks_in_float < blocks:
        raise InputError(
            f"blocks_in_float is {blocks_in_float}; it must be from 0 to {blocks - 1}, since the "
            f"model has {blocks} blocks"
        )
    target = Path(folder)
    make_folder(target)
    # Without a manifest the folder is not an export, until everything is written.
    for file in (MANIFEST, PARITY, *chain.from_iterable(map(_files, PARTS))):
        (target / file).unlink(missing_ok=True)
    details = _details(model, dtype, blocks_in_float)
    written = {
        name: _export_part(model, target, name, dtype, details, blocks_in_float, external_bytes)
        for name in PARTS
        if name in parts
    }
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
    file, data_file, variant = _files(name)
    if quantized:
        quantize_products(graph.graph, skip=blocks_in_float * _PRODUCTS_PER_BLOCK)
    stored = "int8" if quantized else str(floating).removeprefix("torch.")
    digest = rounded_digest(getattr(model, name))
    graph.metadata_props.update(_metadata(details, stored, digest))
    # The two variants of an int8 graph share one file of weights.
    external = quantized or _weight_bytes(graph) > external_bytes
    data = data_file if external else None
    ir.save(graph, folder / file, external_data=data, size_threshold_bytes=_INLINE_BYTES)
    if quantized:
        signed = ir.load(folder / file)
        signed_variant(signed.graph)
        ir.save(signed, folder / variant)
    return ExportedPart(file, stored, digest, variant if quantized else None)


def _files(name: str) -> tuple[str, str, str]:
    """Return the files of a part: its graph, its external weights, its variant for VNNI."""
    return f"{name}.onnx", f"{name}.onnx.data", f"{name}_vnni.onnx"


def in_float(module: Part, dtype: torch.dtype) -> Part:
    """Return the module with all parameters in `dtype` on the CPU; copied only if needed."""
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
    dynamic = {0: frames, 1: torch.export.Dim("question", min=1)}
    question = torch.ones(2, 5, dtype=torch.int64)
    return _trace(
        module,
        {
            "patches": (patches, {0: frames}),
            "question_ids": (question, dynamic),
            "question_mask": (question.clone(), dynamic),
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
    """Return the graph of a module; it shares the module's weights."""
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(dynamic for _, dynamic in inputs.values()),
            verbose=False,
        )
    assert program is not None
    return program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages on torchvision, which is not needed, and deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            # Two inputs share a dynamic size on purpose; transformers' notes while it is traced do
            # not concern the graph.
            for message in ("# The axis name", "While compiling, we found"):
                warnings.filterwarnings("ignore", message, UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _details(model: D2VLM, dtype: str, blocks_in_float: int) -> dict[str, Any]:
    quantization = {"blocks_in_float": blocks_in_float} if dtype == "int8" else {}
    return {
        "model": str(model.name_or_path),
        "revision": getattr(model.config, "_commit_hash", None),
        "vidground_version": __version__,
        "torch_version": torch.__version__,
        "opset": OPSET,
        "dtype": DTYPES[dtype],
        **quantization,
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
    """Return the details as strings, for the properties of the graph file."""
    values = {**details, "dtype": stored, "weights_digest": digest}
    return {
        f"vidground.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def _weight_bytes(model: ir.Model) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
