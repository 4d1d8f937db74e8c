import copy

import pytest
import timm
import torch
from torch import nn

from query2label.errors import ConfigError
from query2label.models.backbone import SpatialBackbone, build_backbone

SIZE = (160, 96)
REGISTERS = "vit_tiny_patch16_dinov3_qkvb"
FAMILIES = [
    *timm.list_models("test_*"),
    "swin_tiny_patch4_window7_224",
    "mixer_s32_224",
    "visformer_tiny",
    REGISTERS,
]
SQUARE_ONLY = {"test_coatnet", "test_maxvit"}
"""timm's windows of these are as many as the image was given at first, in both directions."""

CNN, VIT, NHWC = "test_efficientnet", "test_vit", "test_mambaout"
SWIN = "swin_tiny_patch4_window7_224"


def build(name: str, size: tuple[int, int] = SIZE) -> SpatialBackbone:
    torch.manual_seed(0)
    return build_backbone(name, weights="none", image_size=size)


def images(count: int = 2, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_backbone__gives_a_spatial_map(name: str) -> None:
    size = (160, 160) if name in SQUARE_ONLY else SIZE
    backbone = build(name, size).eval()

    with torch.no_grad():
        features = backbone(images(2, size))

    reduction = backbone.model.feature_info[-1]["reduction"]
    assert features.shape == (2, backbone.num_channels, size[0] // reduction, size[1] // reduction)
    assert not features.requires_grad


@pytest.mark.parametrize("name", FAMILIES)
def test_backbone__learns_in_every_parameter_that_asks_for_it(name: str) -> None:
    # A parameter that gets no gradient would stop distributed training.
    size = (160, 160) if name in SQUARE_ONLY else SIZE
    backbone = build(name, size).train()

    backbone(images(2, size)).square().sum().backward()

    asking = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    answered = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert asking == answered
    assert len(asking) > 0.7 * len(list(backbone.parameters()))


@pytest.mark.parametrize("name", ["tiny_vit_5m_224", CNN, VIT])
def test_backbone__can_be_copied(name: str) -> None:
    # TinyViT keeps tensors of runs in evaluation mode; those of the shape run must not stay behind.
    backbone = build(name).eval()

    copied = copy.deepcopy(backbone)

    with torch.no_grad():
        torch.testing.assert_close(copied(images(1)), backbone(images(1)))


@pytest.mark.parametrize("name", [REGISTERS, VIT, "test_vit_relpos"])
def test_backbone__lays_patch_tokens_out_in_raster_order_without_prefix(name: str) -> None:
    backbone = build(name).eval()
    model = backbone.model

    with torch.no_grad():
        tokens = model.forward_features(images())[:, model.num_prefix_tokens :]
        if isinstance(model.norm, nn.Identity):
            tokens = model.fc_norm(tokens)
        expected = tokens.transpose(1, 2).reshape(2, -1, 10, 6)

        torch.testing.assert_close(backbone(images()), expected)


@pytest.mark.parametrize("name", [SWIN, NHWC])
def test_backbone__turns_channels_first(name: str) -> None:
    backbone = build(name).eval()

    with torch.no_grad():
        expected = backbone.model.forward_features(images())
        features = backbone(images())

    assert torch.equal(features[:, 5], expected[..., 5])


@pytest.mark.parametrize("name", [CNN, SWIN, VIT])
def test_backbone__takes_other_sizes_than_it_was_built_for(name: str) -> None:
    assert build(name).eval()(images(1, (64, 128))).shape[0] == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_backbone__can_be_built_where_gradients_are_off(mode: type) -> None:
    with mode():
        backbone = build(VIT)

    assert backbone.num_channels == 64
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_backbone__counts_channels_where_timm_does_not() -> None:
    backbone = build("mobilenetv3_small_050")

    assert backbone.num_channels == 288
    assert backbone.model.feature_info[-1]["num_chs"] == 288 != backbone.model.head_hidden_size


def test_backbone__knows_its_pretrained_images() -> None:
    spec = build_backbone("tf_efficientnet_lite0.in1k", weights="none").pretrained_spec
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (spec.interpolation, spec.image_size) == ("bicubic", (224, 224))

    spec = build_backbone("resnet18.tv_in1k", weights="none").pretrained_spec
    assert spec.mean == (0.485, 0.456, 0.406)
    assert spec.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crossvit_9_240", "it ends in a list of tensors, not in one map"),
        ("hiera_tiny_224", "normalization of features not supported"),
    ],
)
def test_backbone__without_a_spatial_map_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"Backbone {name} gives no spatial feature map.*: {reason}\."):
        build_backbone(name, weights="none")


def test_backbone__without_patches_in_a_row_is_refused() -> None:
    class Pooled(nn.Module):
        pretrained_cfg = {  # noqa: RUF012
            "architecture": "pooled",
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "interpolation": "bicubic",
            "input_size": (3, 32, 32),
        }

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    with pytest.raises(ConfigError, match=r"its features have the shape \(2, 3\)"):
        SpatialBackbone(Pooled())


def test_backbone__refuses_images_that_it_cannot_take() -> None:
    with pytest.raises(ConfigError, match=r"test_vit gives no .* 100 x 96 pixels .*divisible by patch size"):
        build(VIT, (100, 96))


def frozen_names(backbone: SpatialBackbone) -> set[str]:
    return {name for name, parameter in backbone.model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "frozen", "learning"),
    [
        ("test_resnet", ["conv1.0.weight", "bn1.bias", "layer1.0.conv2.weight"], "layer2.0.conv1.weight"),
        (CNN, ["conv_stem.weight", "blocks.0.0.conv.weight"], "blocks.1.0.conv_exp.weight"),
        (
            "test_cvt",
            ["stage0.patch_embed.proj.weight", "stage0.blocks.0.mlp.fc2.bias"],
            "stage1.patch_embed.norm.bias",
        ),
        (SWIN, ["patch_embed.proj.weight", "layers.0.blocks.1.mlp.fc2.bias"], "layers.1.blocks.0.norm1.bias"),
        (VIT, ["cls_token", "pos_embed", "patch_embed.proj.bias", "blocks.0.attn.qkv.weight"], "norm.bias"),
    ],
)
def test_freeze__stem_is_stem_and_first_stage(name: str, frozen: list[str], learning: str) -> None:
    backbone = build(name)
    unfrozen = frozen_names(backbone)

    backbone.freeze("stem")

    names = frozen_names(backbone) - unfrozen
    assert names.issuperset(frozen)
    assert learning not in names
    prefixes = {name.rpartition(".")[0] for name in frozen} - {""}
    modules = dict(backbone.model.train().named_modules())
    backbone.train()
    assert not any(modules[prefix].training for prefix in prefixes)
    assert modules[learning.rpartition(".")[0]].training


def test_freeze__stem_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"first stage of poolformer_s12 ends: set model\.freeze to none or"
    ):
        build("poolformer_s12").freeze("stem")


@pytest.mark.parametrize("name", [CNN, NHWC, VIT])
def test_freeze__all_stays_out_of_autograd_and_training_mode(name: str) -> None:
    backbone = build(name)
    backbone.freeze("all")
    backbone.train()
    before = copy.deepcopy(backbone.state_dict())

    features = backbone(images().requires_grad_())

    assert not features.requires_grad
    assert backbone.training
    assert not any(module.training for module in backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


def norm_names(backbone: SpatialBackbone) -> set[str]:
    return {
        f"{name}.{inner}"
        for name, module in backbone.model.named_modules()
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)
        for inner, _ in module.named_parameters()
    }


def test_freeze__norm_keeps_statistics_and_weights() -> None:
    backbone = build("test_resnet")
    backbone.freeze("none", norm=True)
    backbone.train()
    before = copy.deepcopy(backbone.state_dict())

    backbone(images()).square().sum().backward()

    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)
    assert frozen_names(backbone) == norm_names(backbone) != set()
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("name", [NHWC, VIT, "test_nfnet", "test_efficientnet_gn", "test_convnext"])
def test_freeze__norm_leaves_everything_else(name: str) -> None:
    backbone = build(name)
    unused = frozen_names(backbone)

    backbone.freeze("none", norm=True)

    assert frozen_names(backbone) - unused == norm_names(backbone) - unused
    assert (norm_names(backbone) == set()) == (name == "test_nfnet")


def test_freeze__nothing_is_the_beginning() -> None:
    backbone = build("test_resnet")
    backbone.freeze("none")
    backbone.train()

    assert frozen_names(backbone) == set()
    assert all(module.training for module in backbone.modules())
    assert not any(module.training for module in backbone.eval().modules())
