import copy
from pathlib import Path

import pytest
import torch

from query2label import Query2Label
from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.errors import ConfigError
from query2label.models.backbone import SpatialBackbone, build_backbone
from query2label.models.build import build_model
from query2label.models.swin_masks import keep_masks
from query2label.preprocess import PreprocessSpec

SWIN = "swin_tiny_patch4_window7_224"


def swin(map_size: tuple[int, int] | None) -> SpatialBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(SWIN, weights="none").eval()
    if map_size is not None:
        keep_masks(backbone, map_size)
    return backbone


def features(backbone: SpatialBackbone, height: int, width: int) -> torch.Tensor:
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone(images)


def masks(backbone: SpatialBackbone) -> dict[str, torch.Tensor]:
    return {
        name: tensor for name, tensor in backbone.model.state_dict().items() if name.endswith("attn_mask")
    }


@pytest.mark.parametrize("map_size", [(7, 7), (4, 6)])
def test_keep_masks__begins_as_computed(map_size: tuple[int, int]) -> None:
    size = (32 * map_size[0], 32 * map_size[1])
    plain, kept = swin(None), swin(map_size)

    assert not masks(plain)
    assert len(masks(kept)) == 5  # every second block but the last stage's, which has one window
    assert torch.equal(features(kept, *size), features(plain, *size))


def test_keep_masks__uses_the_kept_ones_at_their_size_only() -> None:
    kept, plain = swin((4, 6)), swin(None)
    for mask in masks(kept).values():
        mask.fill_(0.0)

    assert (features(kept, 128, 192) - features(plain, 128, 192)).abs().max() > 1e-2
    for other in ((64, 64), (320, 256)):
        assert torch.equal(features(kept, *other), features(plain, *other))


def test_keep_masks__survives_copies_and_bundles(tmp_path: Path) -> None:
    config = ModelConfig(
        backbone=SWIN, weights="none", hidden_dim=16, feedforward_dim=16, stored_masks=(3, 3)
    )
    spec = PreprocessSpec(image_size=(96, 96))
    model = build_model(config, 2, image_size=(96, 96)).eval()
    model.bundle = Bundle(model=config, labels=("a", "b"), preprocess=spec, thresholds=(0.5, 0.5))
    for mask in masks(model.backbone).values():
        mask.fill_(0.0)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(images)
        copied = copy.deepcopy(model)
        model.save_pretrained(tmp_path / "bundle")
        for mask in masks(model.backbone).values():
            mask.fill_(-100.0)

        assert not torch.equal(model(images), before)
        assert torch.equal(copied(images), before)
        assert torch.equal(Query2Label.from_pretrained(tmp_path / "bundle")(images), before)


def test_keep_masks__wants_a_swin() -> None:
    with pytest.raises(ConfigError, match=r"test_resnet is no Swin.*: leave model\.stored_masks unset"):
        keep_masks(build_backbone("test_resnet", weights="none"), (3, 3))
