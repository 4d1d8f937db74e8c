"""Each mistake a user can make: one sentence on stderr, exit code 2, nothing half-written."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from query2label.bundle import Bundle, bundle_digest
from query2label.cli.app import app
from query2label.config import ModelConfig
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec

LABELS = ("cat", "dog")
FAST = ["--set", "model.backbone=test_resnet", "--set", "model.weights=none", "--set", "data.num_workers=0"]


class Place:
    """A bundle, a folder of labelled images, and what may be wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"
        self.data = folder / "data"
        self.out = folder / "out"
        self.photo = self.data / "0.png"
        self.data.mkdir()
        for number in range(12):
            Image.new("RGB", (40, 40), (20 * number, 0, 99)).save(self.data / f"{number}.png")
        self.label([["cat"], ["dog"], ["cat", "dog"]] * 4)
        (folder / "empty").mkdir()
        torch.manual_seed(0)
        config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
        model = build_model(config, 2)
        spec = PreprocessSpec(image_size=(32, 32))
        model.bundle = Bundle(model=config, labels=LABELS, preprocess=spec, thresholds=(0.5, 0.5))
        model.save_pretrained(self.bundle)

    def label(self, rows: list[list[str]]) -> None:
        lines = [f"{number}.png,{'|'.join(row)}" for number, row in enumerate(rows)]
        (self.data / "labels.csv").write_text("\n".join(["image,labels", *lines]) + "\n")

    def files(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def missing(place: Place) -> Path:
    return place.folder / "nowhere"


def empty(place: Place) -> Path:
    return place.folder / "empty"


def broken_bundle(place: Place) -> Path:
    (place.bundle / "config.json").write_text("{")
    return place.bundle


def cut_weights(place: Place) -> Path:
    file = place.bundle / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return place.bundle


def data_with_corrupt_images(place: Place) -> Path:
    for image in place.data.glob("*.png"):
        image.write_bytes(b"no image")
    return place.data


def data_with_unknown_label(place: Place) -> Path:
    place.label([["cat"], ["zebra"]])
    return place.data


def data_with_duplicate_label(place: Place) -> Path:
    (place.data / "labels.csv").write_text("image,cat,cat\n0.png,1,0\n")
    return place.data


def wrong_recipe(place: Place) -> Path:
    recipe = place.folder / "wrong.toml"
    recipe.write_text("[optim]\nlearning_rate = 1e-4\n")
    return recipe


Arguments = Callable[[Place], list[object]]

MISTAKES: dict[str, tuple[Arguments, str]] = {
    "predict: missing path": (lambda p: ["predict", missing(p), "--model", p.bundle], "no file or folder"),
    "predict: empty folder": (lambda p: ["predict", empty(p), "--model", p.bundle], "There are no images in"),
    "predict: missing bundle": (
        lambda p: ["predict", p.photo, "--model", missing(p)],
        "There is no bundle at",
    ),
    "predict: empty bundle": (lambda p: ["predict", p.photo, "--model", empty(p)], "has no config.json"),
    "predict: broken bundle": (lambda p: ["predict", p.photo, "--model", broken_bundle(p)], "is not JSON"),
    "predict: cut weights": (
        lambda p: ["predict", p.photo, "--model", cut_weights(p)],
        "not a whole safetensors",
    ),
    "predict: unknown label": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--threshold", "cab=0.5"],
        "Unknown label 'cab'",
    ),
    "predict: no number": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--threshold", "low"],
        "neither a",
    ),
    "predict: two for all": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--threshold", "cat=0.5", "--threshold", "0.5"],
        "is for all labels",
    ),
    "predict: threshold out of range": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--threshold", "5"],
        "is not within 0 and 1",
    ),
    "predict: unknown device": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--device", "abacus"],
        "There is no device 'abacus'",
    ),
    "predict: absent device": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--device", "cuda:99"],
        "There is no device 'cuda:99'",
    ),
    "predict: parquet without a file": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--format", "parquet"],
        "give --out",
    ),
    "predict: a table into a file": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--out", p.out.with_suffix(".txt")],
        "Give --format jsonl, csv or parquet",
    ),
    "predict: into a folder with other files": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--out", p.data, "--format", "csv"],
        "name a new folder for the parts",
    ),
    "predict: into a file's folder": (
        lambda p: ["predict", p.photo, "--model", p.bundle, "--out", p.photo / "x.csv"],
        "Cannot write",
    ),
    "explain: missing path": (
        lambda p: ["explain", missing(p), "--model", p.bundle, "--out", p.out],
        "no file or folder",
    ),
    "explain: unknown label": (
        lambda p: ["explain", p.photo, "--model", p.bundle, "--out", p.out, "--labels", "cat,cab"],
        "Unknown label 'cab'",
    ),
    "explain: broken bundle": (
        lambda p: ["explain", p.photo, "--model", broken_bundle(p), "--out", p.out],
        "is not JSON",
    ),
    "train: missing path": (lambda p: ["train", "--data", missing(p), "--out", p.out, *FAST], "nowhere"),
    "train: empty folder": (lambda p: ["train", "--data", empty(p), "--out", p.out, *FAST], "empty"),
    "train: duplicate label": (
        lambda p: ["train", "--data", data_with_duplicate_label(p), "--out", p.out, *FAST],
        "'cat' occurs twice",
    ),
    "train: wrong key in a recipe": (
        lambda p: ["train", "--data", p.data, "--out", p.out, "--recipe", wrong_recipe(p)],
        "Unknown setting optim.learning_rate",
    ),
    "train: missing recipe": (
        lambda p: ["train", "--data", p.data, "--out", p.out, "--recipe", "huge"],
        "There is no recipe 'huge'",
    ),
    "train: nothing to resume": (lambda p: ["train", "--resume", missing(p)], "nowhere"),
    "evaluate: missing path": (lambda p: ["evaluate", "--model", p.bundle, "--data", missing(p)], "nowhere"),
    "evaluate: empty folder": (lambda p: ["evaluate", "--model", p.bundle, "--data", empty(p)], "empty"),
    "evaluate: unknown label": (
        lambda p: ["evaluate", "--model", p.bundle, "--data", data_with_unknown_label(p), "--out", p.out],
        "zebra",
    ),
    "evaluate: broken bundle": (
        lambda p: ["evaluate", "--model", broken_bundle(p), "--data", p.data, "--out", p.out],
        "is not JSON",
    ),
    "evaluate: corrupt images": (
        lambda p: ["evaluate", "--model", p.bundle, "--data", data_with_corrupt_images(p), "--out", p.out],
        "image",
    ),
    "thresholds: missing path": (
        lambda p: ["thresholds", "--model", p.bundle, "--data", missing(p)],
        "nowhere",
    ),
    "thresholds: broken bundle": (
        lambda p: ["thresholds", "--model", broken_bundle(p), "--data", p.data],
        "is not JSON",
    ),
    "thresholds: unknown rule": (
        lambda p: ["thresholds", "--model", p.bundle, "--data", p.data, "--rule", "best"],
        "best",
    ),
    "data check: missing path": (lambda p: ["data", "check", missing(p)], "nowhere"),
    "data check: empty folder": (lambda p: ["data", "check", empty(p)], "empty"),
    "data split: empty folder": (lambda p: ["data", "split", empty(p), "--out", p.out], "empty"),
    "data split: duplicate label": (
        lambda p: ["data", "split", data_with_duplicate_label(p), "--out", p.out],
        "'cat' occurs twice",
    ),
    "config: wrong key": (lambda p: ["config", "--recipe", wrong_recipe(p)], "did you mean"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake__is_one_sentence_with_code_2_and_leaves_nothing(place: Place, name: str) -> None:
    make, part = MISTAKES[name]
    arguments = [str(argument) for argument in make(place)]
    before, digests = (
        place.files(),
        {path: path.read_bytes() for path in place.folder.rglob("*.*") if path.is_file()},
    )
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output or result.exception
    assert result.stdout == ""
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert part in sentence
    assert "Traceback" not in result.stderr
    assert place.files() == before
    assert {path: path.read_bytes() for path in digests} == digests


WRITERS: dict[str, Arguments] = {
    "train": lambda p: ["train", "--data", p.data, "--out", p.out, *FAST],
    "predict": lambda p: ["predict", p.photo, "--model", p.bundle, "--out", p.out.with_suffix(".csv")],
    "evaluate": lambda p: [
        *("evaluate", "--model", p.bundle, "--data", p.data, "--out", p.out, "--workers", "0"),
        *("--resamples", "0"),
    ],
    "thresholds": lambda p: ["thresholds", "--model", p.bundle, "--data", p.data, "--workers", "0"],
    "explain": lambda p: ["explain", p.photo, "--model", p.bundle, "--out", p.out],
    "data split": lambda p: ["data", "split", p.data, "--out", p.out.with_suffix(".csv")],
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk__is_one_sentence_with_code_2_and_leaves_nothing(
    place: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before, digest = place.files(), bundle_digest(place.bundle)

    result = CliRunner().invoke(app, [str(argument) for argument in WRITERS[name](place)])

    assert result.exit_code == 2, result.output
    assert re.fullmatch(r"Error: No room to write [^\n]*; free some space[^\n]*\n", result.stderr)
    left = [place.folder / name for name in place.files() - before]
    assert all(path.is_dir() for path in left)  # perhaps empty folders
    assert bundle_digest(place.bundle) == digest


def test_train__only_corrupt_images_end_the_run_without_a_model(place: Place) -> None:
    data = data_with_corrupt_images(place)
    arguments = ["train", "--data", str(data), "--out", str(place.out), *FAST, "--set", "train.epochs=1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("Error: ")
    assert ".png" in sentence
    assert not (place.out / "best").exists()
    assert not [path for path in place.files() if ".tmp-" in path]


def test_predict__a_corrupt_image_is_a_row_and_no_failure(place: Place) -> None:
    (place.data / "broken.png").write_bytes(b"no image")
    arguments = [
        "predict",
        str(place.data),
        "--model",
        str(place.bundle),
        "--out",
        str(place.folder / "p.jsonl"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 13 images could not be read." in result.stderr
    rows = [json.loads(line) for line in (place.folder / "p.jsonl").read_text().splitlines()]
    assert [row["error"] is None for row in rows].count(False) == 1
    only_broken = CliRunner().invoke(
        app, ["predict", str(place.data / "broken.png"), "--model", str(place.bundle)]
    )
    assert only_broken.exit_code == 1
    assert "error: It is not a JPEG" in only_broken.stdout


def test_explain__a_corrupt_image_is_said_and_the_others_are_explained(place: Place) -> None:
    (place.data / "broken.png").write_bytes(b"no image")
    images = [str(place.data / "broken.png"), str(place.photo)]
    result = CliRunner().invoke(
        app, ["explain", *images, "--model", str(place.bundle), "--out", str(place.out)]
    )
    assert result.exit_code == 0, result.output
    assert "broken.png: It is not a JPEG" in result.stderr
    assert sorted(path.name for path in place.out.iterdir()) == ["0", "0.png"]
    with Image.open(place.out / "0.png") as sheet:
        assert sheet.format == "PNG"
    failed = CliRunner().invoke(
        app, ["explain", images[0], "--model", str(place.bundle), "--out", str(place.out)]
    )
    assert failed.exit_code == 1


def test_predict__the_bundle_is_never_changed(place: Place) -> None:
    before = bundle_digest(place.bundle)
    assert CliRunner().invoke(app, ["predict", str(place.data), "--model", str(place.bundle)]).exit_code == 0
    assert bundle_digest(place.bundle) == before
