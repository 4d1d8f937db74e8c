"""Between which values the tensors of an ONNX graph lie, as seen on images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime
from jaxtyping import Float

from query2label.extras import import_extra
from query2label.inference.threads import choose_threads

Ranges = dict[str, tuple[float, float]]
"""Tensor name -> lowest and highest value."""

PURPOSE: Final = "Quantizing a model"
_LOW: Final = " (lowest)"
_HIGH: Final = " (highest)"


def observe_ranges(
    model: Any,
    names: Sequence[str],
    images: Iterable[Float[np.ndarray, "3 H W"]],
    *,
    threads: int | None = None,
) -> Ranges:
    """The lowest and highest value of tensors in an image, averaged over images.

    The average lies within the extremes of all images: the rarest values are cut off, and all others get
    finer steps.

    Args:
        model: An `onnx.ModelProto` in float32 with the input `images`; it stays as it is.
        names: Of float tensors in it.
        images: Normalized, one after the other; at least one.
        threads: Of the processor.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = choose_threads(threads)
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        _with_extremes(model, names), options, providers=["CPUExecutionProvider"]
    )
    outputs = [name + end for name in names for end in (_LOW, _HIGH)]
    rows = [np.array(session.run(outputs, {"images": image[None]}), dtype=np.float64) for image in images]
    extremes = np.mean(rows, axis=0).reshape(len(names), 2)
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, extremes, strict=True)}


def _with_extremes(model: Any, names: Sequence[str]) -> bytes:
    """The model with two more outputs for each name."""
    onnx = import_extra("onnx", extra="onnx", purpose=PURPOSE)
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    for name in names:
        for operation, end in (("ReduceMin", _LOW), ("ReduceMax", _HIGH)):
            observed.graph.node.append(onnx.helper.make_node(operation, [name], [name + end], keepdims=0))
            value = onnx.helper.make_tensor_value_info(name + end, onnx.TensorProto.FLOAT, [])
            observed.graph.output.append(value)
    return bytes(observed.SerializeToString())
