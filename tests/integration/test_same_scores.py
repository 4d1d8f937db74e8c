"""Training, `evaluate`, `Predictor`, `q2l predict`, exports and the service give an image the same scores."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import query2label.evaluation.evaluate
import query2label.training.finish
from query2label.bundle import Bundle
from query2label.cli.app import app
from query2label.config import ModelConfig
from query2label.data.load import load_dataset
from query2label.evaluation.evaluate import evaluate
from query2label.export.run import export_bundle
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec
from query2label.serve.app import create_app
from query2label.serve.server import Server, open_socket
from query2label.training.run import train

SMALL = (
    "model.backbone=test_resnet",
    "model.weights=none",
    "model.hidden_dim=16",
    "data.image_size=[48, 40]",
    "data.num_workers=0",
    "train.batch_size=8",
    "train.epochs=1",
)


def odd_images(folder: Path) -> None:
    """Twenty-four images of the kinds that decoders treat differently, half of them for validation."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = ["image,split,cat,dog"]
    for number in range(24):
        size = (int(generator.integers(30, 90)), int(generator.integers(30, 90)), 3)
        image = Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8))
        kind = number // 2 % 6
        name = f"{number}.{'jpg' if kind < 3 else 'png'}"
        if kind == 0:
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(folder / name, exif=exif)
        elif kind == 5:
            Image.fromarray(generator.integers(0, 65536, size[:2], dtype=np.uint16)).save(folder / name)
        else:
            image.convert(["RGB", "CMYK", "L", "RGBA", "P"][kind - 1 if kind < 3 else kind]).save(
                folder / name
            )
        rows.append(f"{name},{'val' if number % 2 else 'train'},{number // 2 % 2},{number // 4 % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
def test_scores__are_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: str
) -> None:
    seen: dict[str, np.ndarray] = {}

    def record(module: Any, name: str) -> None:
        original = module.report_from_scores

        def recording(scores: np.ndarray, *arguments: Any, **options: Any) -> Any:
            seen[name] = scores
            return original(scores, *arguments, **options)

        monkeypatch.setattr(module, "report_from_scores", recording)

    record(query2label.training.finish, "training")
    record(query2label.evaluation.evaluate, "evaluate")
    odd_images(tmp_path / "data")
    result = train(
        data=tmp_path / "data",
        out=tmp_path / "run",
        overrides=(*SMALL, f"data.resize={resize}"),
        device="cpu",
        quiet=True,
    )
    report = evaluate(result.best, tmp_path / "data", split="val", batch_size=5)

    samples = load_dataset(tmp_path / "data", split="val").samples
    assert len(samples) == 12
    paths = [str(sample.path) for sample in samples]
    predictor = Predictor.load(result.best, device="cpu")
    seen["predictor"] = np.array([list(prediction.scores.values()) for prediction in predictor(paths)])
    arguments = ["predict", *paths, "--model", str(result.best), "--format", "jsonl", "--batch-size", "1"]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    seen["command line"] = np.array([[line["scores"]["cat"], line["scores"]["dog"]] for line in lines])

    assert np.ptp(seen["predictor"][:, 0]) > 1e-4
    for name, scores in seen.items():
        np.testing.assert_allclose(scores, seen["predictor"], rtol=0, atol=1e-6, err_msg=name)
    assert report.map == pytest.approx(result.report.map, abs=1e-9)
    thresholds = np.float32(list(predictor.bundle.thresholds))
    for line, scores in zip(lines, seen["predictor"], strict=True):
        expected = {
            label
            for label, score, limit in zip(("cat", "dog"), scores, thresholds, strict=True)
            if score >= limit
        }
        assert set(line["labels"]) == expected


def _save_small_model(folder: Path) -> Path:
    """A model whose scores differ widely from photo to photo."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=32)
    model = build_model(config, 5, image_size=(96, 96)).eval()
    torch.nn.init.normal_(model.head.output_weight, std=1.0)
    model.bundle = Bundle(
        model=config,
        labels=("a", "b", "c", "d", "e"),
        preprocess=PreprocessSpec(image_size=(96, 96), resize="letterbox"),
        thresholds=(0.5,) * 5,
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_scores__of_200_photos_are_the_same_over_http_and_on_every_runtime(
    tmp_path: Path, voc_sample: Path
) -> None:
    """In Python, on the command line, over HTTP; on torch, ONNX Runtime and OpenVINO."""
    photos = sorted((voc_sample / "JPEGImages").glob("*.jpg"))[:200]
    bundle = _save_small_model(tmp_path / "bundle")
    predictors = {"python": Predictor.load(bundle, device="cpu")}
    for name, file in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        export_bundle(bundle, tmp_path / file, to=name)
        predictors[name] = Predictor.load(tmp_path / file)
    seen = {
        name: np.array([list(prediction.scores.values()) for prediction in predictor(photos)])
        for name, predictor in predictors.items()
    }
    printed = CliRunner().invoke(
        app, ["predict", *map(str, photos), "--model", str(bundle), "--format", "jsonl"]
    )
    seen["command line"] = np.array(
        [list(json.loads(line)["scores"].values()) for line in printed.stdout.splitlines()]
    )
    for name, predictor in predictors.items():
        seen[f"http, {name}"] = np.array(_served(predictor, photos))

    assert len(seen) == 7
    assert seen["python"].std(axis=0).max() > 0.1
    for name, scores in seen.items():
        assert scores.shape == (200, 5)
        np.testing.assert_allclose(scores, seen["python"], rtol=0, atol=1e-4, err_msg=name)


def _served(predictor: Predictor, photos: list[Path]) -> list[list[float]]:
    service = create_app(predictor)
    bound = open_socket("127.0.0.1", 0)
    server = Server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    rows = []
    try:
        while not service.state.service.is_warm:
            time.sleep(0.02)
        with httpx.Client(base_url=address, timeout=60) as client:
            for start in range(0, len(photos), 8):
                files = [("image", photo.read_bytes()) for photo in photos[start : start + 8]]
                answer = client.post("/v1/predict", files=files).json()
                rows += [list(prediction["scores"].values()) for prediction in answer["predictions"]]
    finally:
        server.end()
        thread.join()
    return rows
