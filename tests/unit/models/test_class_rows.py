import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from query2label.config import ModelConfig, parse_config
from query2label.data.load import load_dataset
from query2label.data.loaders import EvalBatches
from query2label.models.backbone import build_backbone
from query2label.models.build import preprocess_spec
from query2label.models.class_rows import read_class_rows, start_rows
from query2label.models.offline import offline_weights_path

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0():
    if offline_weights_path(LITE0) is None:
        pytest.skip(f"the weights package of {LITE0} is not installed")
    return build_backbone(LITE0)


def test_start_rows__are_the_mean_of_the_named_classes_shorter_with_more_photos():
    class_rows = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    rows = start_rows(class_rows, ("hen", "giraffe", "dog", "dog"), torch.tensor([0, 0, 5, 95]))

    distinct = normalize(class_rows - class_rows.mean(dim=0))
    torch.testing.assert_close(rows[0], 0.5 * distinct[8])
    assert not rows[1].any()
    torch.testing.assert_close(rows[2], 0.25 * normalize(distinct[151:269].mean(dim=0), dim=0))
    torch.testing.assert_close(rows[3], rows[2] / 10)


def test_read_class_rows__of_the_weights_package(lite0):
    weights = torch.load(offline_weights_path(LITE0), weights_only=True)
    assert torch.equal(read_class_rows(ModelConfig(backbone=LITE0), lite0), weights["_fc.weight"])
    assert read_class_rows(ModelConfig(backbone=LITE0, weights="none"), lite0) is None


@pytest.mark.parametrize(
    ("tensors", "is_found"),
    [
        ({"classifier.weight": torch.ones(1000, 1280)}, True),
        ({"classifier.weight": torch.ones(1000, 1280, 1, 1)}, True),
        ({"classifier.weight": torch.ones(1000, 640)}, False),
        ({"classifier.weight": torch.ones(10, 1280)}, False),
        ({"head.weight": torch.ones(1000, 1280)}, False),
    ],
)
def test_read_class_rows__of_a_file(tensors, is_found, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    backbone = build_backbone(LITE0, weights="none")
    rows = read_class_rows(ModelConfig(backbone=LITE0, weights=str(path)), backbone)
    assert (rows is not None) == is_found
    if rows is not None:
        assert torch.equal(rows, torch.ones(1000, 1280))


@pytest.mark.parametrize("name", ["resnet18", "vit_small_patch14_dinov2", "convnext_tiny.fb_in22k"])
def test_read_class_rows__finds_none_on_the_hub_without_a_network(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    size = {"image_size": (56, 56)} if name.startswith("vit") else {}
    backbone = build_backbone(name, weights="none", **size)
    assert read_class_rows(ModelConfig(backbone=name), backbone) is None


def test_start_rows__rank_photos_before_any_training(lite0, voc_sample):
    # The truth: labels of real photos. It would fail if words and rows were out of step.
    config = parse_config({"data": {"image_size": 224}}, where="a test")
    spec = preprocess_spec(config, lite0)
    photos = load_dataset(voc_sample, split="val")
    chosen = np.arange(0, len(photos), 3)
    labels = ("bird", "bus", "cat", "dog")
    rows = start_rows(read_class_rows(config.model, lite0), labels, torch.zeros(4, dtype=torch.int64))

    batches = EvalBatches(photos, spec, batch_size=31, indices=chosen)
    with torch.inference_mode():
        features = [lite0.eval()(batch.images).mean(dim=(2, 3)) for batch in batches]
    scores = torch.cat(features) @ rows.T

    targets = photos.targets()[chosen]
    for column, label in enumerate(labels):
        shown = targets[:, photos.labels.index(label)] == 1
        there, absent = scores[shown, column], scores[~shown, column]
        assert len(there) >= 3
        assert (there[:, None] > absent).float().mean() > 0.85, label
