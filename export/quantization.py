"""Matrix products with constant weights in 8 bit: twice to four times as fast on a CPU.

Weights are rounded to 8 bit with one scale per output channel; activations, as they come, with
one scale per patch. So a patch's features depend neither on the other frames of a batch nor on
examples seen beforehand, and a few patches with large values cost the others no precision.

The products of bytes are exact on every CPU only if both are unsigned (without VNNI instructions,
the sum of two products of an unsigned and a signed byte does not fit into 16 bit), while VNNI is
twice as fast with signed weights. `signed_variant` makes the one graph of the other.

Knows graphs of onnx_ir; knows no model and no files.
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

_GELU_MINIMUM = -0.16997121  # no value of gelu(x) is below it
_LARGEST_WEIGHT = 127  # so that weights are symmetric; -128 is not used
_OFFSET = 128  # of unsigned bytes that stand for signed ones


def quantize_products(graph: ir.Graph, *, skip: int = 0) -> int:
    """Put 8-bit products in the place of matrix products with constant weights.

    Args:
        graph: changed in place. Each product's weights must be used only once.
        skip: so many of them, from the input on, stay as they are.

    Returns:
        How many were replaced.

    Raises:
        InputError: if none is left to replace.
    """
    products = [node for node in graph if _is_product(node)][skip:]
    if not products:
        raise InputError(f"there is no matrix product to quantise behind the first {skip}")
    builder = _Builder(graph)
    for node in products:
        _quantize(builder, node)
    graph.opset_imports[CONTRIB] = 1
    return len(products)


def signed_variant(graph: ir.Graph) -> None:
    """Make the products' weights signed as the graph is loaded; the results stay the same."""
    builder = _Builder(graph)
    offset = builder.constant("weight_offset", np.int32(_OFFSET))
    for node in [node for node in graph if node.op_type == "MatMulIntegerToFloat"]:
        unsigned, zero_point = node.inputs[1], node.inputs[5]
        assert unsigned is not None
        assert zero_point is not None
        assert zero_point.shape is not None
        builder.before = node
        # onnxruntime computes this once, when it loads the graph.
        wide = builder.add("Cast", [unsigned], to=int(ir.DataType.INT32))
        signed = builder.add("Cast", [builder.add("Sub", [wide, offset])], to=int(ir.DataType.INT8))
        zeros = np.zeros(zero_point.shape.numpy(), np.int8)
        node.replace_input_with(1, signed)
        node.replace_input_with(5, builder.constant(f"{unsigned.name}_signed_zero", zeros))


@dataclass
class _Builder:
    """Adds nodes to a graph, in front of the node `before`."""

    graph: ir.Graph
    before: ir.Node | None = None

    def constant(self, name: str, value: npt.ArrayLike) -> ir.Value:
        """A constant under a name; the one there is if the name is taken."""
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.asarray(value), name=name)
            self.graph.register_initializer(ir.val(name, const_value=tensor))
        return self.graph.initializers[name]

    def add(
        self, operator: str, inputs: list[ir.Value], domain: str = "", **given: Any
    ) -> ir.Value:
        """The only output of a new node."""
        node = ir.node(operator, inputs, given, domain=domain)
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
    """(in, out) weights as scales (out,) and whole numbers from -127 to 127."""
    largest = np.maximum(np.abs(values).max(0), np.finfo(np.float32).tiny * _LARGEST_WEIGHT)
    scales = (largest / _LARGEST_WEIGHT).astype(np.float32)
    return scales, np.rint(values / scales).clip(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)


def _round_symmetric(
    builder: _Builder, activations: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Activations as bytes around 128, the scale of each row, and the 128."""
    size = builder.add("Abs", [activations])
    scale = _row_scale(builder, size, _LARGEST_WEIGHT)
    offset = builder.constant("activation_offset", np.uint8(_OFFSET))
    return _to_bytes(builder, activations, scale, offset), scale, offset


def _round_from_minimum(
    builder: _Builder, activations: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The same of values that have a lower bound: twice as fine. The bound is taken off."""
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
