"""Quantize matrix products with constant weights to 8 bits: 2 to 4 times as fast on a CPU.

Weights are rounded to 8 bits with one scale per output channel; activations are rounded at run time
with one scale per patch. So a patch's features depend neither on other frames of the batch nor on
calibration data, and patches with large values do not reduce the precision of others.

Products of bytes are exact on every CPU only if both are unsigned (without VNNI, the sum of two
products of an unsigned and a signed byte overflows 16 bits), while VNNI is twice as fast with
signed weights. `signed_variant` converts a graph from the first form to the second.

Works on graphs of onnx_ir; reads no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from vidground.errors import InputError

CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators."""

_GELU_MINIMUM = -0.16997121  # lower bound of gelu(x)
_LARGEST_WEIGHT = 127  # symmetric; -128 is not used
_OFFSET = 128  # from signed to unsigned bytes


def quantize_products(graph: ir.Graph, *, skip: int = 0) -> int:
    """Replace matrix products with constant weights by 8-bit products.

    Args:
        graph: changed in place. Each product's weights must be used only once.
        skip: number of first products to leave unchanged.

    Returns:
        The number of products replaced.

    Raises:
        InputError: there is none to replace.
    """
    products = [node for node in graph if _is_product(node)][skip:]
    if not products:
        raise InputError(f"the graph has no matrix product to quantize after the first {skip}")
    builder = _Builder(graph)
    for node in products:
        _quantize(builder, node)
    graph.opset_imports[CONTRIB] = 1
    return len(products)


def signed_variant(graph: ir.Graph) -> None:
    """Convert the products' weights to signed bytes when the graph is loaded; results are equal."""
    builder = _Builder(graph)
    offset = builder.constant("weight_offset", np.int32(_OFFSET))
    for node in [node for node in graph if node.op_type == "MatMulIntegerToFloat"]:
        unsigned, zero_point = node.inputs[1], node.inputs[5]
        assert unsigned is not None
        assert zero_point is not None
        assert zero_point.shape is not None
        builder.before = node
        # onnxruntime folds this into a constant when it loads the graph.
        wide = builder.add("Cast", [unsigned], to=int(ir.DataType.INT32))
        signed = builder.add("Cast", [builder.add("Sub", [wide, offset])], to=int(ir.DataType.INT8))
        zeros = np.zeros(zero_point.shape.numpy(), np.int8)
        node.replace_input_with(1, signed)
        node.replace_input_with(5, builder.constant(f"{unsigned.name}_signed_zero", zeros))


@dataclass
class _Builder:
    """Inserts nodes into a graph before the node `before`."""

    graph: ir.Graph
    before: ir.Node | None = None

    def constant(self, name: str, value: npt.ArrayLike) -> ir.Value:
        """Return the constant of this name, added if it does not exist."""
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.asarray(value), name=name)
            self.graph.register_initializer(ir.val(name, const_value=tensor))
        return self.graph.initializers[name]

    def add(
        self, operator: str, inputs: list[ir.Value], domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Insert a node and return its only output."""
        node = ir.node(operator, inputs, attributes, domain=domain)
        assert self.before is not None
        self.graph.insert_before(self.before, node)
        return node.outputs[0]


def _is_product(node: ir.Node) -> bool:
    weights = node.inputs[1] if node.op_type == "MatMul" else None
    return weights is not None and weights.is_initializer()


def _quantize(builder: _Builder, node: ir.Node) -> None:
    activations, weights = node.inputs
    assert activations is not None
    assert weights is not None
    assert weights.const_value is not None
    values = weights.const_value.numpy().astype(np.float32)
    scales, rounded = _round_weights(values)
    producer = activations.producer()
    builder.before = node
    if producer is not None and producer.op_type == "Gelu":
        quantized, row_scale, zero_point = _round_from_minimum(builder, activations)
        shift = _GELU_MINIMUM * (rounded * scales).sum(0)
    else:
        quantized, row_scale, zero_point = _round_symmetric(builder, activations)
        shift = None
    name = str(weights.name)
    product = builder.add(
        "MatMulIntegerToFloat",
        [
            quantized,
            builder.constant(f"{name}_8bit", (rounded + _OFFSET).astype(np.uint8)),
            builder.constant("one", np.float32(1)),
            builder.constant(f"{name}_scales", scales),
            zero_point,
            builder.constant(f"{name}_zero", np.full(scales.shape, _OFFSET, np.uint8)),
        ],
        CONTRIB,
    )
    result = builder.add("Mul", [product, row_scale])
    if shift is not None:
        result = builder.add("Add", [result, builder.constant(f"{name}_shift", shift)])
    ir.convenience.replace_all_uses_with(node.outputs[0], result, replace_graph_outputs=True)
    builder.graph.remove(node, safe=True)
    if not weights.uses():
        del builder.graph.initializers[name]


def _round_weights(
    values: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return scales (out,) and whole numbers in [-127, 127] for (in, out) weights."""
    largest = np.maximum(np.abs(values).max(0), np.finfo(np.float32).tiny * _LARGEST_WEIGHT)
    scales = (largest / _LARGEST_WEIGHT).astype(np.float32)
    return scales, np.rint(values / scales).clip(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)


def _round_symmetric(
    builder: _Builder, activations: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return activations as bytes around 128, the scale of each row, and the 128."""
    size = builder.add("Abs", [activations])
    scale = _row_scale(builder, size, _LARGEST_WEIGHT)
    offset = builder.constant("activation_offset", np.uint8(_OFFSET))
    return _to_bytes(builder, activations, scale, offset), scale, offset


def _round_from_minimum(
    builder: _Builder, activations: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the same for outputs of Gelu minus their lower bound, with twice the resolution."""
    minimum = builder.constant("gelu_minimum", np.float32(_GELU_MINIMUM))
    above = builder.add("Sub", [activations, minimum])
    scale = _row_scale(builder, above, 255)
    zero = builder.constant("activation_zero", np.uint8(0))
    return _to_bytes(builder, above, scale, zero), scale, zero


def _row_scale(builder: _Builder, sizes: ir.Value, steps: int) -> ir.Value:
    axis = builder.constant("last_axis", np.array([-1], np.int64))
    largest = builder.add("ReduceMax", [sizes, axis], keepdims=1)
    floor = builder.constant("smallest_range", np.float32(1e-12))  # a row may be all zero
    share = builder.constant(f"per_{steps}", np.float32(1 / steps))
    return builder.add("Mul", [builder.add("Max", [largest, floor]), share])


def _to_bytes(
    builder: _Builder, values: ir.Value, scale: ir.Value, zero_point: ir.Value
) -> ir.Value:
    steps = builder.add("Div", [values, scale])
    one = builder.constant("one", np.float32(1))
    return builder.add("QuantizeLinear", [steps, one, zero_point])
