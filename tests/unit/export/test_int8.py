"""Export in int8: calibrated, measured on labelled images, and refused where it costs too much."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from query2label.bundle import edit_bundle
from query2label.cli.app import app
from query2label.errors import ExportError
from query2label.evaluation.evaluate import evaluate
from query2label.export.int8_images import MOST_CALIBRATION_IMAGES, calibration_images, first_images
from query2label.export.run import export_bundle
from query2label.inference.predictor import Predictor

FILES = {"onnx": "model.onnx", "openvino": "model.xml"}


@pytest.fixture(scope="module")
def shape_model(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("shapes-model") / "bundle", num_labels=3, size=(48, 48))
    edit_bundle(folder, labels=("circle", "square", "triangle"))
    return folder


@pytest.mark.parametrize("to", FILES)
def test_int8__says_what_it_costs_and_brings(
    to: str, shape_model: Path, shapes: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    said: list[str] = []
    path = tmp_path / FILES[to]

    verification = export_bundle(
        shape_model, path, to=to, precision="int8", data=shapes, max_drop=100.0, threads=1, say=said.append
    )

    found = verification.trade_off
    assert found is not None
    assert (found.num_images, found.kept) == (21, ())
    predictor = Predictor.load(path, threads=1)
    assert predictor.runtime.artefact.precision == "int8"
    measured = evaluate(predictor, shapes, split="val", num_resamples=0)
    assert found.map_int8 == pytest.approx(measured.map, abs=1e-6)
    whole = evaluate(shape_model, shapes, split="val", num_resamples=0)
    assert found.map_float == pytest.approx(whole.map, abs=1e-6)
    assert 0.95 <= found.agreement <= 1
    assert found.bytes_int8 < 0.6 * found.bytes_float
    assert said[0] == "Observing activations on 40 images."
    text = str(verification)
    assert f"a drop of {100 * (whole.map - measured.map):.2f} points (100 is accepted)" in text
    assert f"0 of {found.num_operations} operations kept in float32" in text


def test_int8__that_costs_too_much_keeps_more_and_more_in_float32_then_refuses(
    shape_model: Path, shapes: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    path = tmp_path / "model.onnx"

    with pytest.raises(ExportError, match=r"must not be used: .* \(-100 is accepted"):
        export_bundle(
            shape_model,
            path,
            to="onnx",
            precision="int8",
            data=shapes,
            images=sorted(shapes.glob("*.png"))[:4],
            max_drop=-100.0,
            threads=1,
            say=said.append,
        )

    assert path.is_file()
    tried = [int(text.split()[0]) for text in said if "in float32: mAP" in text]
    assert tried[0] == 0
    assert tried == sorted(set(tried))
    assert len(tried) >= 4
    assert any(text.startswith("Ranking") for text in said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "onnx", "--precision", "int8", "--out", "m.onnx"], "int8 is measured on labelled images"),
        (
            ["--to", "onnx", "--data", "photos", "--out", "m.onnx"],
            "(--data) are for int8 only",
        ),
        (
            ["--to", "torch", "--precision", "int8", "--data", "photos", "--out", "m.pt2"],
            "int8 is for ONNX Runtime and OpenVINO",
        ),
    ],
)
def test_int8__refuses_what_makes_no_sense(options: list[str], message: str, bundle: Path) -> None:
    result = CliRunner().invoke(app, ["export", "--model", str(bundle), *options])

    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_int8__needs_images_to_calibrate_on(shape_model: Path, shapes: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(shape_model)
    table = tmp_path / "labels.csv"
    shutil.copy(shapes / "00.png", tmp_path)
    table.write_text("image,labels\n00.png,circle\n")

    with pytest.raises(ExportError, match=r"no image to calibrate int8 on in a split train of .*--images"):
        calibration_images((), table, predictor.bundle)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ExportError, match=r"no image to calibrate int8 on among those given"):
        calibration_images([tmp_path / "broken.png"], table, predictor.bundle)


def test_int8__needs_labels(shape_model: Path, shapes: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    shutil.copy(shapes / "00.png", tmp_path)
    table.write_text("image,circle,square,triangle\n00.png,0,0,0\n")

    with pytest.raises(ExportError, match=r"No label is known to be in any image of .*so there is no mAP"):
        export_bundle(
            shape_model,
            tmp_path / "m.onnx",
            to="onnx",
            precision="int8",
            data=table,
            images=[shapes / "01.png"],
            threads=1,
        )


def test_calibration_images__are_taken_evenly(shape_model: Path, shapes: Path) -> None:
    bundle = Predictor.load(shape_model).bundle
    photos = sorted(shapes.glob("*.png"))

    many = calibration_images([photos[0]] * 300, shapes, bundle)

    assert len(many) == MOST_CALIBRATION_IMAGES
    assert len(calibration_images((), shapes, bundle)) == 40


def test_first_images__leaves_out_what_cannot_be_read(shapes: Path) -> None:
    from query2label.data.load import load_dataset

    assert len(first_images(load_dataset(shapes, split="val"))) == 10
