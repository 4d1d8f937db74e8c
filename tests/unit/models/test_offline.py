from pathlib import Path

import pytest
import timm
import torch

from query2label.errors import BundleError
from query2label.models import offline
from query2label.models.backbone import build_backbone
from query2label.models.offline import OFFLINE_ARCHITECTURES, offline_weights_path, read_offline_weights


def installed(architecture: str) -> Path:
    path = offline_weights_path(architecture)
    if path is None:
        pytest.skip(f"the weights package of {architecture} is not installed")
    return path


def test_offline_weights_path__is_none_where_there_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offline_weights_path("resnet50") is None
    monkeypatch.setattr(offline.importlib.util, "find_spec", lambda _: None)
    assert offline_weights_path("tf_efficientnet_lite0") is None


@pytest.mark.parametrize("architecture", OFFLINE_ARCHITECTURES)
def test_read_offline_weights__fills_every_tensor_of_the_timm_model(architecture: str) -> None:
    wanted = timm.create_model(architecture).state_dict()

    weights = read_offline_weights(installed(architecture), timm_names=wanted)

    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in wanted.items()
    }


def test_read_offline_weights__refuses_a_layer_that_timm_does_not_have(tmp_path: Path) -> None:
    torch.save({"_blocks.0._se_reduce.weight": torch.zeros(1)}, tmp_path / "w.pth")

    with pytest.raises(
        BundleError, match=r"has _blocks\.0\._se_reduce\.weight, which the timm model does not"
    ):
        read_offline_weights(tmp_path / "w.pth", timm_names=["blocks.0.0.conv_dw.weight"])


def test_build_backbone__takes_the_package_by_the_models_name() -> None:
    weights = torch.load(installed("tf_efficientnet_lite0"), weights_only=True)

    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"):
        backbone = build_backbone(name)
        assert torch.equal(backbone.model.conv_stem.weight, weights["_conv_stem.weight"])
        assert torch.equal(
            backbone.model.blocks[6][0].bn3.running_var, weights["_blocks.15._bn2.running_var"]
        )
