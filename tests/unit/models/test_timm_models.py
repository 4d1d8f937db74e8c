import time
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from query2label.errors import BundleError, ConfigError
from query2label.models import timm_models
from query2label.models.backbone import build_backbone

FAMILIES = ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_mambaout", "test_nfnet"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache is empty, and every question to the hub fails as it does without a network."""

    def unreachable(*_: object, **__: object) -> None:
        raise timm_models.HfHubHTTPError.__bases__[0]("Name or service not known")

    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(HfApi, "model_info", unreachable)


def test_build_backbone__suggests_a_name() -> None:
    with pytest.raises(ConfigError, match=r"Unknown backbone 'resnet5O': did you mean .*resnet50"):
        build_backbone("resnet5O")


@pytest.mark.parametrize("name", ["?", "hf-hub:someone/something", "../../etc/passwd", ""])
def test_build_backbone__knows_timm_names_only(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"Unknown backbone .*: timm\.list_models\(\) lists all names|did you"
    ):
        build_backbone(name)


def test_build_backbone__lists_the_tags_of_weights() -> None:
    with pytest.raises(ConfigError, match=r"resnet18 has no weights tagged 'best': choose from .*a1_in1k"):
        build_backbone("resnet18.best")


def test_build_backbone__says_that_there_are_no_pretrained_weights() -> None:
    with pytest.raises(ConfigError, match="coatnet_0_224 has no pretrained weights: set"):
        build_backbone("coatnet_0_224")


@pytest.mark.usefixtures("no_network")
def test_build_backbone__says_quickly_that_the_network_is_missing() -> None:
    start = time.monotonic()

    with pytest.raises(ConfigError, match=r"test_resnet are not on this machine.*cannot be reached.*offline"):
        build_backbone("test_resnet")

    assert time.monotonic() - start < 5


def test_build_backbone__says_in_offline_mode_that_weights_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda *_: None)

    with pytest.raises(ConfigError, match="offline mode is enabled"):
        build_backbone("test_resnet")


@pytest.mark.usefixtures("no_network")
def test_build_backbone__takes_the_hubs_cache_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "model.safetensors"
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), cached)
    asked = []
    monkeypatch.setattr(
        timm_models, "try_to_load_from_cache", lambda *what: asked.append(what) or str(cached)
    )

    backbone = build_backbone("test_resnet")

    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
    assert torch.equal(backbone.model.conv1[0].weight, model.conv1[0].weight)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_build_backbone__loads_a_file_but_for_the_classifier(tmp_path: Path, name: str, suffix: str) -> None:
    model = timm.create_model(name, num_classes=7).eval()
    path = tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)

    backbone = build_backbone(name, weights=str(path)).eval()

    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.model.forward_features(images), model.forward_features(images), rtol=0, atol=1e-5
        )


def test_build_backbone__wants_a_file_that_fits(tmp_path: Path) -> None:
    weights = timm.create_model("test_resnet").state_dict()
    weights["surplus"] = weights.pop("bn1.bias")
    torch.save(weights, tmp_path / "w.pth")

    with pytest.raises(
        BundleError, match=r"w\.pth does not fit the model; missing: bn1\.bias; left over: surplus"
    ):
        build_backbone("test_resnet", weights=str(tmp_path / "w.pth"))


def test_without_classifier__drops_every_classifier() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3)

    kept = timm_models.without_classifier(model.state_dict(), model)

    assert set(model.state_dict()) - set(kept) == {
        "head.weight",
        "head.bias",
        "head_dist.weight",
        "head_dist.bias",
    }
