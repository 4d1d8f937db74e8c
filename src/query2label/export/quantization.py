"""An ONNX graph in 8 bits: which operations can be, and the graph where all or some of them are.

Weights are signed, symmetric, with a scale per output channel; activations unsigned with a zero point. The
graph has pairs of QuantizeLinear and DequantizeLinear (QDQ), from which ONNX Runtime and OpenVINO both
choose their own 8-bit kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from query2label.export.calibration import PURPOSE, Ranges, observe_ranges
from query2label.extras import import_extra

_WEIGHTED: Final = ("Conv", "Gemm", "MatMul")
_FOLLOWING: Final = ("Clip", "Relu", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
"""What is computed in 8 bits where its input is."""
_POOLING: Final = ("GlobalAveragePool", "ReduceMean")
_FLOAT: Final = 1  # onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Quantizable:
    """A graph in float32 with what is needed to compute it in 8 bits."""

    model: Any
    """The `onnx.ModelProto`."""
    operations: tuple[str, ...]
    """Names of the operations that can be in 8 bits, in the order of the graph."""
    ranges: Ranges
    """Of their inputs and outputs."""

    @classmethod
    def of(
        cls, content: bytes, images: Iterable[Float[np.ndarray, "3 H W"]], *, threads: int | None = None
    ) -> Quantizable:
        """A graph with the ranges that its tensors have on images.

        Stays in float32, because it costs little and means much: all that normalizes or gates (LayerNorm,
        softmax, squeeze-excite, activations other than ReLU), what computes with averages over the map,
        products of two activations (attention), and the residual stream of transformers.

        Args:
            content: An ONNX file in float32 with the input `images`.
            images: Normalized, one after the other.
            threads: Of the processor.
        """
        model = import_extra("onnx", extra="onnx", purpose=PURPOSE).ModelProto.FromString(content)
        graph = _Graph(model)
        nodes = [node for node in model.graph.node if graph.quantizes(node)]
        following = [node for node in model.graph.node if node.op_type in _FOLLOWING]
        names = sorted({name for node in (*nodes, *following) for name in graph.activations(node)})
        ranges = observe_ranges(model, names, images, threads=threads)
        return cls(model, tuple(node.name for node in nodes), ranges)

    def quantized(self, operations: Collection[str]) -> bytes:
        """The content of an ONNX file where these operations are in 8 bits, and all others in float32."""
        onnx = import_extra("onnx", extra="onnx", purpose=PURPOSE)
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        model = onnx.ModelProto()
        model.CopyFrom(self.model)  # it is changed in place
        ranges = {
            name: TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in self.ranges.items()
        }
        following = [node.name for node in model.graph.node if node.op_type in _FOLLOWING]
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
            nodes_to_quantize=[*operations, *following],
            nodes_to_exclude=[],
            op_types_to_quantize=[*_WEIGHTED, "Add", *_FOLLOWING],
            # A product's bias follows in float32, which both runtimes add before they write the product.
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )
        quantizer.quantize_model()
        model = quantizer.model.model
        return bytes(model.SerializeToString())


class _Graph:
    """What is asked about a graph: types, ranks, constants, and who reads what."""

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.constants = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        """Name -> rank."""
        types = {
            value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self.ranks = {name: len(kind.shape.dim) for name, kind in types.items()}
        self.floats = {name for name, kind in types.items() if kind.elem_type == _FLOAT}
        self.normalized = {
            name for node in graph.node if node.op_type == "LayerNormalization" for name in node.input[:1]
        }
        self.averaged: set[str] = set()
        for node in graph.node:
            inputs = [name for name in node.input if name not in self.constants]
            if node.op_type in _POOLING or (inputs and all(name in self.averaged for name in inputs)):
                self.averaged.update(node.output)

    def activations(self, node: Any) -> list[str]:
        """Inputs and outputs of a node that depend on the images."""
        return [
            name for name in (*node.input, *node.output) if name in self.floats and name not in self.constants
        ]

    def quantizes(self, node: Any) -> bool:
        """Whether this is an operation whose speed and size 8 bits change, and that stands it."""
        if node.op_type == "Add":  # the residual stream of convolutions
            maps = all(self.ranks.get(name) == 4 and name not in self.constants for name in node.input)
            return maps and node.output[0] not in self.normalized
        if node.op_type not in _WEIGHTED or self.averaged.issuperset(node.output):
            return False
        # A product with a matrix per head is not: ONNX Runtime has no kernel for its zero points.
        return node.op_type == "Conv" or self.constants.get(node.input[1]) == 2
