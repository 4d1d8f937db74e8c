import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from query2label.errors import BundleError, ConfigError, MissingExtraError
from query2label.inference.openvino_runtime import import_openvino
from query2label.inference.predictor import Predictor


def foreign_onnx(path: Path, **options: object) -> Path:
    """An ONNX model that somebody else made."""
    weight = onnx.numpy_helper.from_array(np.ones(3, dtype=np.float32), "weight")
    if "external" in options:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", options["external"]), ("length", "12")):
            weight.external_data.add(key=key, value=value)
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["images", "weight"], ["logits"])],
        "foreign",
        [onnx.helper.make_tensor_value_info("images", float32, [None, 3])],
        [onnx.helper.make_tensor_value_info("logits", float32, [None, 3])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("missing.onnx", {}, BundleError, r"There is no file .*missing.onnx"),
        ("missing.xml", {}, BundleError, r"There is no file .*missing.xml"),
        (
            "model.onnx",
            {"runtime": "openvino"},
            ConfigError,
            r"model.onnx does not run on openvino: .onnx files",
        ),
        ("model.onnx", {"runtime": "torch"}, ConfigError, r"model.onnx does not run on torch"),
        ("model.xml", {"runtime": "onnx"}, ConfigError, r"model.xml does not run on onnx"),
        (
            "model.pt2",
            {},
            BundleError,
            r"model.pt2 cannot be predicted with: give a bundle folder, or a file",
        ),
        (".", {"runtime": "onnx"}, ConfigError, r"A bundle runs on torch, not on onnx: q2l export --model"),
        ("foreign.onnx", {"device": "cuda"}, ConfigError, "There is no device 'cuda' for ONNX Runtime here"),
        ("foreign.onnx", {"threads": 0}, ConfigError, "The number of threads must be at least 1"),
        ("model.xml", {"device": "cuda"}, ConfigError, "There is no device 'cuda' for OpenVINO here: .* cpu"),
        (
            "foreign.onnx",
            {},
            BundleError,
            r"foreign.onnx was not written by query2label: .* Export the bundle",
        ),
        ("model.onnx", {}, BundleError, r"model.onnx is not an ONNX model that can be run"),
        ("model.xml", {}, BundleError, r"model.xml is not a model that OpenVINO can run"),
    ],
)
def test_load__says_what_is_wrong(
    name: str, options: dict[str, str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    for file in ("model.onnx", "model.xml", "model.pt2"):
        (tmp_path / file).write_text("<net>broken")
    foreign_onnx(tmp_path / "foreign.onnx")

    with pytest.raises(error, match=message):
        Predictor.load(tmp_path / name, **options)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_load__refuses_a_cut_file(cut: int, tmp_path: Path) -> None:
    whole = foreign_onnx(tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[:cut])

    with pytest.raises(
        BundleError, match=r"model.onnx (is not an ONNX model|was not written by query2label)"
    ):
        Predictor.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("place", ["../secret.bin", "{folder}/secret.bin"])
def test_load__reads_no_weights_outside_of_the_folder(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    folder = tmp_path / "model"
    folder.mkdir()
    path = foreign_onnx(folder / "model.onnx", external=place.format(folder=tmp_path))

    with pytest.raises(BundleError, match="is not an ONNX model that can be run"):
        Predictor.load(path)


def test_load__needs_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.xml").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(MissingExtraError, match=r"needs the package openvino: .*query2label\[openvino\]"):
        Predictor.load(tmp_path / "m.xml")


def test_import_openvino__tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("openvino")]:
        if name.startswith("openvino_telemetry"):
            pytest.fail("the package that reports usage was imported")
    assert import_openvino("A test").Core().available_devices
    assert "openvino_telemetry" not in sys.modules
