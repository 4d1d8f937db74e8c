"""Published checkpoints give the authors' answers, with weights that anyone can rebuild."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from query2label import Query2Label
from query2label.models.coco_labels import COCO_LABELS
from query2label.models.position import sine_position_encoding
from query2label.models.published import PUBLISHED_MODELS

SMALL = ("R18-96-plain", "R18-96-selfattn")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AS_IT_IS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
OTHER_SIZES = {"Q2L-SwinL-384": (256, 352), "Q2L-CvT_w24-384": (192, 256)}
"""(height, width) that each can take besides its own; others: (160, 224)."""


def draw(name: str, shape: list[int]) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = rng.standard_normal(shape, dtype=np.float32)
    leaf = name.rpartition(".")[2]
    if leaf in {"num_batches_tracked", "relative_position_index"}:
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == "running_var":
        noise = 1 + 0.1 * np.abs(noise)
    elif leaf == "running_mean":
        noise *= 0.1
    elif leaf in {"bias", "in_proj_bias", "b"}:
        noise *= 0.02
    elif leaf == "relative_position_bias_table":
        noise *= 0.5
    elif leaf == "W":
        noise /= np.sqrt(shape[-1])
    elif len(shape) == 1:
        noise = np.where(noise > 1.5, -1, 1) * (1 + 0.1 * noise)
    elif not name.endswith("query_embed.weight"):
        noise *= np.sqrt(1 / np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(noise, np.float32))


def write_checkpoint(case: dict[str, Any], path: Path, *, prefix: str = "", **others: Any) -> Path:
    _, dim, height, width = case["keys"]["backbone.1.pe"]
    position = sine_position_encoding(height, width, dim).transpose(1, 2).reshape(1, dim, height, width)
    weights = {
        prefix + name: position if name == "backbone.1.pe" else draw(name, shape)
        for name, shape in case["keys"].items()
    }
    torch.save({"state_dict": weights, "epoch": 1, "best_mAP": 0.0, **others}, path)
    return path


def golden_case(shared_dir: Path, name: str) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """The case, its image, and the authors' logits."""
    case = json.loads((shared_dir / "golden" / f"{name}.json").read_text())
    size = case["model"]["image_size"]
    rng = np.random.Generator(np.random.PCG64(7))
    image = torch.from_numpy(rng.standard_normal((1, 3, size, size), dtype=np.float32))
    return case, image, torch.tensor(case["logits"]).reshape(1, -1)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_from_published__gives_the_authors_logits(
    shared_dir: Path, tmp_path: Path, name: str, prefix: str
) -> None:
    case, image, expected = golden_case(shared_dir, name)
    momentum = {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    path = write_checkpoint(case, tmp_path / "checkpoint.pkl", prefix=prefix, optimizer=momentum)

    model = Query2Label.from_published(path, num_heads=case["model"]["num_heads"])

    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(model.forward_with_attention(image)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_from_published__keeps_the_logits_in_a_bundle(shared_dir: Path, tmp_path: Path, name: str) -> None:
    case, image, _ = golden_case(shared_dir, name)
    path = write_checkpoint(case, tmp_path / "checkpoint.pkl")
    model = Query2Label.from_published(path, num_heads=case["model"]["num_heads"])
    with torch.no_grad():
        before = model(image)
        model.save_pretrained(tmp_path / "bundle")
        for parameter in model.parameters():
            parameter.zero_()

        restored = Query2Label.from_pretrained(tmp_path / "bundle")

        assert torch.equal(restored(image), before)
        assert restored.bundle == model.bundle


@pytest.mark.slow
@pytest.mark.parametrize("published", PUBLISHED_MODELS, ids=lambda model: model.name)
def test_from_published__every_model_of_the_paper(shared_dir: Path, tmp_path: Path, published: Any) -> None:
    case, image, expected = golden_case(shared_dir, published.name)
    path = write_checkpoint(case, tmp_path / "checkpoint.pkl")
    try:
        model = Query2Label.from_published(path)
    finally:
        path.unlink()
    height, width = OTHER_SIZES.get(published.name, (160, 224))

    with torch.inference_mode():
        torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-4)
        other = model(image[:, :, :height, :width])

    assert other.shape == expected.shape
    assert torch.isfinite(other).all()
    bundle = model.bundle
    assert bundle is not None
    assert bundle.labels == COCO_LABELS
    assert bundle.preprocess.image_size == (case["model"]["image_size"],) * 2
    assert (bundle.preprocess.resize, bundle.preprocess.interpolation) == ("squash", "bilinear")
    mean_and_std = AS_IT_IS if "TRes" in published.name else IMAGENET
    assert (bundle.preprocess.mean, bundle.preprocess.std) == mean_and_std
    assert bundle.metrics["published"]["model"] == published.name
    assert bundle.metrics["published"]["mAP"] == published.mean_average_precision
    assert bundle.metrics["published"]["protocol"].startswith("coco14-all")
