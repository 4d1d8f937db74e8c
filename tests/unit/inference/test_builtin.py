"""The model in the box."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from query2label.bundle import BUILTIN_DIGEST, BUILTIN_PATH
from query2label.data.load import load_dataset
from query2label.errors import BundleError, ConfigError
from query2label.explain.localization import inside_boxes, pointing_game
from query2label.export.run import export_bundle
from query2label.inference.onnx_runtime import OnnxRuntime
from query2label.inference.predictor import Predictor
from query2label.inference.runtimes import model_digest, read_model
from query2label.metrics import average_precision

EXPECTED = {
    "2008_000235.jpg": {"boat": 0.9968, "person": 0.1562},
    "2010_003597.jpg": {"chair": 0.5942, "person": 0.9977},
    "2011_001082.jpg": {"motorbike": 0.1634, "train": 0.9938},
}
"""Scores above a tenth, of photos of the VOC sample, by the bundle it was made from, in float32 torch."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_builtin__is_the_one_that_the_benchmark_made() -> None:
    assert model_digest() == BUILTIN_DIGEST


def test_builtin__names_no_folder_of_the_machine_that_made_it() -> None:
    content = BUILTIN_PATH.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


def test_builtin__is_small() -> None:
    assert {file.name for file in BUILTIN_PATH.parent.iterdir()} == {"model.onnx", "README.md"}
    assert sum(file.stat().st_size for file in BUILTIN_PATH.parent.iterdir()) <= 12_000_000


def test_builtin_card__says_what_it_was_trained_on_and_how_good_it_is() -> None:
    card = (BUILTIN_PATH.parent / "README.md").read_text(encoding="utf-8")
    bundle = read_model(BUILTIN_PATH)
    assert "651 photos" in card
    assert "277 photos" in card
    assert f"mAP {100 * bundle.metrics['mAP']:.1f}" in card
    for label, threshold in zip(bundle.labels, bundle.thresholds, strict=True):
        row = bundle.metrics["per_label"][label]
        numbers = " | ".join(f"{100 * row[key]:.1f}" for key in ("AP", "precision", "recall"))
        trained = bundle.data["training_images_per_label"][label]
        assert f"\n| {label} | {threshold:.3f} | {trained} | {row['positives']} | {numbers} |\n" in card
    assert "**Limits.**" in card
    assert "**Terms.**" in card


@pytest.mark.parametrize(
    "arguments", [["predict", "photo.png"], ["explain", "photo.png", "--out", "looks", "--labels", "dog"]]
)
def test_first_answer__imports_no_torch(arguments: list[str], photo: Path) -> None:
    code = (
        "import sys; from query2label.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'torch', 'torchvision', 'timm', 'onnxruntime'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=photo.parent, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "['onnxruntime']"


def test_load__without_a_model_takes_the_one_in_the_box() -> None:
    predictor = Predictor.load()
    assert predictor.bundle == read_model(BUILTIN_PATH)
    assert isinstance(predictor.runtime, OnnxRuntime)
    assert predictor.runtime.has_attention


def test_load__without_a_model_runs_on_onnx_only() -> None:
    with pytest.raises(ConfigError, match=r"does not run on torch: .onnx files run on onnx"):
        Predictor.load(runtime="torch")


def test_explain__has_no_grad_cam_of_the_model_in_the_box(photo: Path) -> None:
    with pytest.raises(ConfigError, match="An exported file gives no gradients, which Grad-CAM needs"):
        Predictor.load().explain(photo, method="gradcam")


def test_export__wants_a_bundle_and_not_the_model_in_the_box(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model.onnx is a file, and this needs a bundle: give the folder"):
        export_bundle(BUILTIN_PATH, tmp_path / "m.xml", to="openvino")


def test_builtin__scores_as_the_bundle_that_it_was_made_from(voc_sample: Path) -> None:
    predictor = Predictor.load(threads=1)
    for name, expected in EXPECTED.items():
        scores = predictor(voc_sample / "JPEGImages" / name).scores
        assert {label for label, score in scores.items() if score > 0.1} == set(expected)
        for label, score in expected.items():
            assert scores[label] == pytest.approx(score, abs=0.01)


def test_builtin__looks_at_the_thing(voc_sample: Path) -> None:
    val = load_dataset(voc_sample).select("val")
    predictor = Predictor.load(threads=1)
    hits = []
    for sample in val.samples[::20]:
        label = sample.boxes[0].label
        explanation = predictor.explain(sample.path, labels=[val.labels.names[label]])
        size = (explanation.image.height, explanation.image.width)
        inside = inside_boxes([box for box in sample.boxes if box.label == label], size)
        hits.append(pointing_game(explanation.map_on_image(val.labels.names[label], size), inside))
    assert len(hits) == 14
    assert np.mean(hits) >= 0.7  # maps that know nothing: 0.3; the middle of each photo: 0.6


@pytest.mark.slow
def test_builtin__is_as_good_on_each_label_as_it_says(voc_sample: Path) -> None:
    val = load_dataset(voc_sample).select("val")
    predictor = Predictor.load(threads=1)
    predictions = predictor.stream([sample.path for sample in val.samples])
    scores = np.array([[each.scores[label] for label in val.labels] for each in predictions])
    stated = predictor.bundle.metrics
    found = average_precision(scores.astype(np.float32), val.targets())
    assert found.mean() == pytest.approx(stated["mAP"], abs=1e-3)
    for label, value in zip(val.labels, found.values, strict=True):
        assert value == pytest.approx(stated["per_label"][label]["AP"], abs=5e-3)


def test_load__an_empty_name_is_not_the_model_in_the_box() -> None:
    with pytest.raises(BundleError):
        Predictor.load("")
