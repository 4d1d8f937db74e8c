"""`q2l predict --format fiftyone` and `labelstudio`: folders for these tools."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from query2label.bundle import Bundle
from query2label.cli.app import app
from query2label.config import ModelConfig
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
    model = build_model(config, 2)
    spec = PreprocessSpec(image_size=(32, 32))
    model.bundle = Bundle(model=config, labels=("cat", "dog"), preprocess=spec, thresholds=(0.0, 1.0))
    model.save_pretrained(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, grey in (("a.png", 10), ("b.png", 200)):
        Image.new("RGB", (40, 40), (grey,) * 3).save(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    return folder


def predict(bundle: Path, photos: Path, *options: object) -> Result:
    command = ["predict", str(photos), "--model", str(bundle), "--device", "cpu"]
    return CliRunner().invoke(app, [*command, *map(str, options)], env={"COLUMNS": "300"})


def test_predict__writes_a_folder_for_fiftyone(bundle: Path, photos: Path, tmp_path: Path) -> None:
    result = predict(bundle, photos, "--format", "fiftyone", "--out", tmp_path / "fo")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"Written: {tmp_path / 'fo'}, 2 images; fo.Dataset.from_dir('{tmp_path / 'fo'}', "
        "fo.types.FiftyOneImageClassificationDataset) opens it.\n"
    )
    assert "1 of 3 images could not be read." in result.stderr
    paths = json.loads((tmp_path / "fo" / "data.json").read_text())
    assert list(paths.values()) == [str(photos / "a.png"), str(photos / "b.png")]
    labels = json.loads((tmp_path / "fo" / "labels.json").read_text())["labels"]
    expected = Predictor.load(bundle, device="cpu")([photos / "a.png", photos / "b.png"])
    for found, prediction in zip(labels.values(), expected, strict=True):
        assert [each["label"] for each in found] == ["cat"]
        assert found[0]["confidence"] == pytest.approx(prediction.scores["cat"], abs=1e-6)


def test_predict__writes_tasks_for_labelstudio(bundle: Path, photos: Path, tmp_path: Path) -> None:
    result = predict(bundle, photos, "--format", "labelstudio", "--out", tmp_path / "ls")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={photos}.\n")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=a.png",
        "/data/local-files/?d=b.png",
    ]
    assert (tmp_path / "ls" / "config.xml").is_file()


@pytest.mark.parametrize("form", ["fiftyone", "labelstudio"])
def test_predict__folders_for_tools_need_a_name(
    bundle: Path, photos: Path, tmp_path: Path, form: str
) -> None:
    nowhere = predict(bundle, photos, "--format", form)
    assert (nowhere.exit_code, nowhere.stderr) == (
        2,
        f"Error: The format {form} needs a folder to write to: give --out.\n",
    )
    file = predict(bundle, photos, "--format", form, "--out", bundle / "config.json")
    assert file.exit_code == 2
    assert file.stderr.endswith(f"config.json is a file: give a folder for the format {form}.\n")
