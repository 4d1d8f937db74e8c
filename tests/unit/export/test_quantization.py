"""Which operations are quantized, between which values, and what the quantized graph computes."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from query2label.export.calibration import observe_ranges
from query2label.export.graph import trace
from query2label.export.onnx import onnx_bytes
from query2label.export.quantization import Quantizable
from query2label.inference.openvino_runtime import import_openvino
from query2label.models.build import load_model

SIZE = (64, 96)


def graph_of(bundle: Path) -> bytes:
    model = load_model(bundle)
    return onnx_bytes(
        trace(model, image_size=SIZE, precision="fp32", attention=False, any_image_size=False), {}
    )


def images(number: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(number, 3, *SIZE)).astype(np.float32)


def logits(content: bytes) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": images()})[0])


def test_observe_ranges__averages_the_extremes_of_each_image() -> None:
    node = helper.make_node("Mul", ["images", "two"], ["doubled"])
    shape = ["batch", 3, 2, 2]
    graph = helper.make_graph(
        [node],
        "doubling",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    seen = np.stack([np.arange(12).reshape(3, 2, 2) - 5, 10 * np.ones((3, 2, 2))]).astype(np.float32)

    ranges = observe_ranges(model, ["images", "doubled"], seen, threads=1)

    assert ranges == {"images": (2.5, 8.0), "doubled": (5.0, 16.0)}
    assert len(model.graph.output) == 1


FAMILIES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext2", "test_cvt"]


@pytest.fixture(scope="module", params=FAMILIES)
def quantizable(
    request: pytest.FixtureRequest, save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Quantizable:
    bundle = save_model(tmp_path_factory.mktemp("model") / "bundle", backbone=request.param)
    return Quantizable.of(graph_of(bundle), images(), threads=1)


def test_quantizable__takes_weighted_operations_and_leaves_what_normalizes_or_gates(
    quantizable: Quantizable,
) -> None:
    nodes = {node.name: node for node in quantizable.model.graph.node}
    weights = {tensor.name for tensor in quantizable.model.graph.initializer}
    taken = [nodes[name] for name in quantizable.operations]

    assert {node.op_type for node in taken} <= {"Conv", "MatMul", "Gemm", "Add"}
    assert sum(node.op_type != "Add" for node in taken) >= 8
    assert all(node.input[1] in weights for node in taken if node.op_type != "Add")
    gates = [node for node in nodes.values() if node.op_type in {"GlobalAveragePool", "ReduceMean"}]
    read_by = {name: node for node in nodes.values() for name in node.input}
    assert not {read_by[node.output[0]].name for node in gates} & set(quantizable.operations)


def test_quantizable__in_8_bits_is_close_and_small(quantizable: Quantizable) -> None:
    whole = quantizable.model.SerializeToString()
    expected = logits(whole)

    small = quantizable.quantized(quantizable.operations)

    difference = np.abs(logits(small) - expected)
    assert 0 < difference.max() < 0.5 * np.ptp(expected), (difference.max(), np.ptp(expected))
    graph = onnx.load_from_string(small).graph
    assert [node.op_type for node in graph.node].count("QuantizeLinear") > 8
    nodes = {node.name: node for node in quantizable.model.graph.node}
    weights = {nodes[name].input[1] for name in quantizable.operations if nodes[name].op_type != "Add"}
    assert not weights & {tensor.name for tensor in graph.initializer}  # they are 8-bit ones now


def test_quantizable__is_computed_by_openvino_too(quantizable: Quantizable) -> None:
    small = quantizable.quantized(quantizable.operations)
    core = import_openvino("A test").Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(small)), "CPU")

    expected = logits(small)

    assert np.abs(compiled(images())["logits"] - expected).max() < 0.2 * np.ptp(expected)


def test_quantizable__with_nothing_in_8_bits_is_the_model(quantizable: Quantizable) -> None:
    np.testing.assert_allclose(
        logits(quantizable.quantized(())), logits(quantizable.model.SerializeToString()), rtol=0, atol=1e-6
    )


def test_quantizable__keeps_operations_in_float32(quantizable: Quantizable) -> None:
    names = quantizable.operations
    half = onnx.load_from_string(quantizable.quantized(names[: len(names) // 2]))

    whole = {tensor.name for tensor in half.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    nodes = {node.name: node for node in quantizable.model.graph.node}
    kept = [nodes[name] for name in names[len(names) // 2 :] if nodes[name].op_type != "Add"]
    assert kept
    assert all(node.input[1] in whole for node in kept)
