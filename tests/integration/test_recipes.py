"""Every shipped recipe: its model at its real size, as shapes alone, and two steps of a small one like it."""

import re
import tomllib
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from typer.testing import CliRunner

from query2label.bundle import read_bundle
from query2label.cli.app import app
from query2label.config import load_config, recipe_names
from query2label.models.build import build_model, preprocess_spec
from query2label.training.run import train

RECIPES = Path(__file__).resolve().parents[2] / "src" / "query2label" / "recipes"
SMALL = {
    "tf_efficientnet": ("test_efficientnet", 64),
    "resnet": ("test_resnet", 64),
    "tresnet": ("tresnet_m", 64),
    "swin": ("swin_tiny_patch4_window7_224", 64),
    "cvt": ("test_cvt", 64),
    "convnext": ("test_convnext", 64),
    "eva02": ("eva02_tiny_patch14_224", 56),
    "vit_large_patch16_dinov3": ("vit_tiny_patch16_dinov3_qkvb", 64),
    "vit_so400m_patch16_siglip": ("test_vit", 64),
}
"""Beginning of a backbone's name -> a small model of its family, and its image size."""
SHRUNK = {
    "tresnet_m": {"layers": [1, 1, 1, 1], "width_factor": 0.25},
    "swin_tiny_patch4_window7_224": {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
}
"""Of families without a tiny model in timm."""
MILLION_PARAMETERS = {
    "coco-r101-448": 193.8, "coco-r101-576": 193.8, "coco-tresl-448": 160.5, "coco-tresl22k-448": 120.0,
    "coco-cvtw24-384": 314.1,
}  # fmt: skip
"""As published, for 80 labels."""
OWN_PHOTOS = ("laptop", "small", "standard")
"""Recipes of this project alone, for anybody's photos."""


def small(backbone):
    return next(value for beginning, value in SMALL.items() if backbone.startswith(beginning))


@pytest.mark.parametrize("name", recipe_names())
def test_recipe__says_where_it_comes_from_and_what_to_expect(name):
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    header = text.split("\n[")[0]
    assert all(line.startswith("#") for line in header.strip().splitlines())
    for word in ("Source", "Expected", "Hardware", "Time", "Command"):
        assert re.search(rf"^# {word}: \S", header, re.MULTILINE), word
    assert re.search(rf"q2l train --data \S+ --out \S+ --recipe {name}( --set \S+)?$", header, re.MULTILINE)
    assert max(len(line) for line in text.splitlines()) < 160
    if name.endswith("-modern"):
        assert re.search(r"^# Expected: not measured", header, re.MULTILINE)
    elif name not in OWN_PHOTOS:
        assert "# Not published: " in header
        assert "Not measured with query2label" in " ".join(header.replace("#", "").split())
    printed = CliRunner().invoke(app, ["config", "--recipe", name])
    assert printed.exit_code == 0
    assert load_config(name).model_dump(mode="json", exclude_none=True) == tomllib.loads(printed.stdout)


@pytest.mark.parametrize("name", recipe_names())
def test_recipe__its_model_can_be_built_at_its_size(name):
    config = load_config(name)
    num_labels = {"coco": 80, "nuswide": 81, "vg500": 500}.get(name.partition("-")[0], 20)
    with torch.device("meta"):
        model = build_model(config.model, num_labels, load_weights=False, image_size=config.data.image_size)
        logits = model.eval().requires_grad_(requires_grad=False)(torch.empty(1, 3, *config.data.image_size))
    assert logits.shape == (1, num_labels)
    architecture, _, tag = config.model.backbone.partition(".")
    if architecture.startswith("cvt"):
        assert not timm.get_pretrained_cfg(architecture).has_weights  # the header says how to get them
    elif tag:
        assert config.model.backbone in timm.list_pretrained(f"{architecture}.*")
    if name in MILLION_PARAMETERS:
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        frozen_norms = 0.11 if config.model.freeze_norm else 0  # no parameters in the authors' count
        assert millions - frozen_norms == pytest.approx(MILLION_PARAMETERS[name], abs=0.06)
    spec = preprocess_spec(config, model.backbone)
    if "tresl" in name:
        assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))
    elif not name.endswith("-modern") and name not in OWN_PHOTOS:
        assert spec.mean == pytest.approx((0.485, 0.456, 0.406))
        assert spec.interpolation == "bilinear"


@pytest.mark.parametrize("name", recipe_names())
def test_recipe__two_steps_of_training(name, tmp_path, monkeypatch):
    config, create = load_config(name), timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **kw: create(name, **SHRUNK.get(name, {}), **kw))
    backbone, size = small(config.model.backbone)
    overrides = [
        f"model.backbone={backbone}", "model.weights=none", "model.hidden_dim=16", "model.feedforward_dim=32",
        f"data.image_size={size}", "data.num_workers=0", "train.epochs=1", "train.batch_size=4",
        f"train.accumulate={min(config.train.accumulate, 2)}", f"train.cache_dir={tmp_path / 'cache'}",
    ]  # fmt: skip
    if config.train.precision == "fp16":
        overrides.append("train.precision=bf16")  # fp16 needs a GPU
    data = _images(tmp_path / "data", config.data.train_split, config.data.val_split)
    result = train(
        data=data, out=tmp_path / "run", recipe=name, overrides=overrides, device="cpu", quiet=True
    )
    (record,) = result.epochs
    assert record["step"] == 2
    assert record["train_loss"] > 0
    bundle = read_bundle(result.best)
    assert bundle.labels == ("cat", "dog")
    assert bundle.model.backbone == backbone
    assert bundle.preprocess.image_size == (size, size)


def _images(folder, train_split, val_split):
    """Eight plain images to learn from and four to validate on."""
    folder.mkdir()
    rows = ["image,labels,split"]
    for number in range(12):
        Image.new("RGB", (40, 30), (20 * number, 90, 250 - 20 * number)).save(folder / f"{number}.png")
        labels = ("cat", "dog", "cat|dog", "")[number % 4]
        rows.append(f"{number}.png,{labels},{train_split if number < 8 else val_split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
